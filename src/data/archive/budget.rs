//! How much an archive may expand to: a few bytes must not fill a disk.

use crate::common::number;

/// An archive may expand to this many times its size. Images are compressed already (a JPEG or PNG
/// in an archive keeps its size), bitmaps and label files shrink to a tenth or so, while zip bombs
/// expand a thousandfold and more.
const RATIO: u64 = 100;
/// Any archive may expand to this many bytes: in small ones, uniform images shrink more.
const FLOOR: u64 = 256 << 20;
/// No archive may expand to more: twice the largest public set of images (ImageNet-21k).
const TOTAL: u64 = 3 << 40;
/// No archive may have more entries; the names of each take memory.
const ENTRIES: u64 = 50_000_000;

/// The bytes and files to which an archive, with those in it, may still expand.
pub(in crate::data) struct Budget {
    limit: u64,
    used: u64,
    entries: u64,
}

impl Budget {
    /// The budget of an archive of `length` bytes.
    pub(in crate::data) fn of(length: u64) -> Budget {
        Budget { limit: length.saturating_mul(RATIO).clamp(FLOOR, TOTAL), used: 0, entries: 0 }
    }

    /// The bytes that are left.
    pub(super) fn left(&self) -> u64 {
        self.limit - self.used
    }

    /// Counts expanded bytes.
    ///
    /// # Errors
    /// If they exceed the budget: a sentence to follow the archive's name.
    pub(in crate::data) fn expand(&mut self, bytes: u64) -> Result<(), String> {
        self.used = self.used.saturating_add(bytes);
        if self.used > self.limit {
            self.used = self.limit;
            return Err(self.exceeded());
        }
        Ok(())
    }

    /// Counts an entry.
    ///
    /// # Errors
    /// If there are too many: a sentence to follow the archive's name.
    pub(in crate::data) fn entry(&mut self) -> Result<(), String> {
        self.entries += 1;
        if self.entries > ENTRIES {
            return Err(format!("has more than {} entries", number::thousands(ENTRIES)));
        }
        Ok(())
    }

    /// Why more can't be expanded: a sentence to follow the archive's name.
    pub(super) fn exceeded(&self) -> String {
        format!(
            "expands to more than {}, as only zip bombs do (the limit is {RATIO} times the archive's size, at least {}, \
             at most {})",
            number::bytes(self.limit),
            number::bytes(FLOOR),
            number::bytes(TOTAL)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_grows_with_the_archive_and_has_an_end() {
        assert_eq!(Budget::of(1).left(), FLOOR);
        assert_eq!(Budget::of(FLOOR).left(), FLOOR * RATIO);
        assert_eq!(Budget::of(u64::MAX).left(), TOTAL);
        let mut budget = Budget::of(1);
        budget.expand(FLOOR).unwrap();
        assert!(budget.expand(1).unwrap_err().contains("zip bombs"));
        assert!(budget.expand(u64::MAX).is_err());
    }
}
