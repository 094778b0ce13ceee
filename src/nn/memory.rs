//! The allocator's settings for training.

/// Lets this process keep the memory that it frees, for its next allocations. A training step frees
/// and allocates the same large tensors as the step before; the system would take each back, and
/// clear it again page by page, which took a tenth of a step. The most memory in use stays the same.
/// Does nothing with other allocators than glibc's.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "std has no access to the allocator's settings")]
    // SAFETY: the call takes only numbers, and may be made at any time.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        // -1: never.
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
    }
}
