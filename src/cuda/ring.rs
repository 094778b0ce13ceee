//! Brings data to the GPU while it computes: pinned slots that the host fills, and two twins in GPU
//! memory that the copy stream writes and the compute stream reads, in turn.
//!
//! ```text
//! host     take ─ fill ─ submit        take waits until the slot's last copy has ended (`arrived`)
//! copy              └─ waits for `consumed` of the twin ─ copies ─ records `arrived`
//! compute  receive ─ waits for `arrived` ─ kernels that read the twin ─ release records `consumed`
//! ```
//!
//! Order is by submission. The types allow no other: a slot is lent, submitted or free, and a twin
//! is read between `receive` and `release` only.

use std::{collections::VecDeque, time::Duration};

use super::{
    device::Card,
    error::CudaError,
    memory::{Buffer, Pinned, Upload},
    stream::{Event, Stream},
};

const TWINS: usize = 2;

/// Pinned memory to be filled by the host, on any thread.
#[derive(Debug)]
pub struct Slot {
    pinned: Pinned,
}

impl Slot {
    /// Write in order, and don't read: the memory isn't cached.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.pinned.as_mut_slice()
    }
}

/// Data on the GPU that the compute stream may read, until it is released.
#[derive(Debug)]
#[must_use = "the ring stands still until it is released"]
pub struct Arrived {
    twin: usize,
    address: u64,
    bytes: usize,
}

impl Arrived {
    pub fn address(&self) -> u64 {
        self.address
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[derive(Debug)]
pub struct Ring {
    compute: Stream,
    copy: Stream,
    slots: usize,
    bytes: usize,
    free: Vec<Slot>,
    /// Events of uploads that have ended.
    spare: Vec<Event>,
    /// Filled, but every twin is in use; with the bytes used.
    filled: VecDeque<(Slot, usize)>,
    /// Copies that the compute stream hasn't been made to wait for.
    on_their_way: VecDeque<(usize, Upload, usize)>,
    /// Copies whose slots haven't been asked for since; the oldest first.
    received: VecDeque<Upload>,
    twins: Vec<Twin>,
    next_twin: usize,
    waiting: Waiting,
}

#[derive(Debug)]
struct Twin {
    buffer: Buffer<u8>,
    consumed: Event,
    in_use: bool,
}

impl Ring {
    /// `slots` pinned slots and two twins of `bytes` each. Three slots keep a host that fills one
    /// ahead of the copy.
    pub fn new(card: &Card, slots: usize, bytes: usize) -> Result<Ring, CudaError> {
        let twin =
            || Ok(Twin { buffer: card.zeros(bytes)?, consumed: card.event()?, in_use: false });
        Ok(Ring {
            compute: card.compute().clone(),
            copy: card.copy().clone(),
            slots,
            bytes,
            free: (0..slots)
                .map(|_| Ok(Slot { pinned: card.pinned(bytes)? }))
                .collect::<Result<_, CudaError>>()?,
            spare: (0..slots).map(|_| card.event()).collect::<Result<_, _>>()?,
            filled: VecDeque::new(),
            on_their_way: VecDeque::new(),
            received: VecDeque::new(),
            twins: (0..TWINS).map(|_| twin()).collect::<Result<_, CudaError>>()?,
            next_twin: 0,
            waiting: Waiting::new(card)?,
        })
    }

    /// A slot to fill, after waiting for the oldest copy where all others are in use. `None` while
    /// each slot is lent, or submitted and not received.
    pub fn take(&mut self) -> Result<Option<Slot>, CudaError> {
        if let Some(slot) = self.free.pop() {
            return Ok(Some(slot));
        }
        match self.received.pop_front() {
            Some(upload) => self.reclaim(upload).map(Some),
            None => Ok(None),
        }
    }

    /// Hands over a filled slot, of which the first `bytes` bytes are copied.
    pub fn submit(&mut self, slot: Slot, bytes: usize) -> Result<(), CudaError> {
        if bytes > self.bytes {
            let (what, end, count) = ("submitting a slot", bytes, self.bytes);
            return Err(CudaError::OutOfRange { what, start: 0, end, count });
        }
        self.filled.push_back((slot, bytes));
        self.start_copies()
    }

    /// The compute stream waits for the oldest submitted data. `None` where nothing is submitted,
    /// or both twins are in use.
    pub fn receive(&mut self) -> Result<Option<Arrived>, CudaError> {
        let Some((twin, upload, bytes)) = self.on_their_way.pop_front() else { return Ok(None) };
        self.waiting.begin(&self.compute)?;
        if let Some(arrived) = upload.arrived() {
            self.compute.wait(arrived)?;
        }
        self.waiting.end(&self.compute)?;
        self.received.push_back(upload);
        Ok(Some(Arrived { twin, address: self.twins[twin].buffer.address(), bytes }))
    }

    /// To be called after the last kernel that reads the data is enqueued.
    pub fn release(&mut self, arrived: Arrived) -> Result<(), CudaError> {
        let twin = &mut self.twins[arrived.twin];
        self.compute.record(&twin.consumed)?;
        twin.in_use = false;
        self.start_copies()
    }

    /// The compute stream has nothing to do from here until the next data arrive: the time until
    /// then counts as waiting. Without this call it counts from `receive` on.
    pub fn idle(&mut self) -> Result<(), CudaError> {
        self.waiting.begin(&self.compute)
    }

    /// How long the compute stream has waited for data since the last call. Waits until the stream
    /// is past its last `receive`.
    pub fn waited(&mut self) -> Result<Duration, CudaError> {
        self.waiting.take()
    }

    /// How many slots there are in all.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Waits until the copy has read the slot.
    fn reclaim(&mut self, upload: Upload) -> Result<Slot, CudaError> {
        let (pinned, event) = upload.finish()?;
        self.spare.push(event);
        Ok(Slot { pinned })
    }

    /// Copies are enqueued only where `consumed` has been recorded: an event waits for its last
    /// record, so a wait for a later one can't be enqueued ahead of it.
    fn start_copies(&mut self) -> Result<(), CudaError> {
        while !self.twins[self.next_twin].in_use {
            let Some((slot, bytes)) = self.filled.pop_front() else { return Ok(()) };
            let Some(event) = self.spare.pop() else {
                return Err(CudaError::Bug("the ring has more copies than slots".to_owned()));
            };
            let twin = &mut self.twins[self.next_twin];
            self.copy.wait(&twin.consumed)?;
            let upload = Upload::start(&self.copy, slot.pinned, bytes, &twin.buffer, event)?;
            twin.in_use = true;
            self.on_their_way.push_back((self.next_twin, upload, bytes));
            self.next_twin = (self.next_twin + 1) % TWINS;
        }
        Ok(())
    }
}

/// Sums the time between pairs of events in the compute stream. Pairs are read when they have been
/// reached.
#[derive(Debug)]
struct Waiting {
    /// The beginnings and ends that the stream may not have reached.
    pairs: VecDeque<(Event, Event)>,
    spare: Vec<(Event, Event)>,
    /// The pair whose beginning is recorded.
    open: Option<(Event, Event)>,
    milliseconds: f64,
}

/// So many steps may be ahead of the GPU without the host waiting for the events of an earlier one.
const PAIRS: usize = 16;

impl Waiting {
    fn new(card: &Card) -> Result<Waiting, CudaError> {
        let pair = |_| Ok((card.timed_event()?, card.timed_event()?));
        Ok(Waiting {
            pairs: VecDeque::new(),
            spare: (0..PAIRS).map(pair).collect::<Result<_, CudaError>>()?,
            open: None,
            milliseconds: 0.0,
        })
    }

    fn begin(&mut self, stream: &Stream) -> Result<(), CudaError> {
        if self.open.is_some() {
            return Ok(());
        }
        if self.spare.is_empty() {
            self.read_oldest()?;
        }
        if let Some(pair) = self.spare.pop() {
            stream.record(&pair.0)?;
            self.open = Some(pair);
        }
        Ok(())
    }

    fn end(&mut self, stream: &Stream) -> Result<(), CudaError> {
        if let Some(pair) = self.open.take() {
            stream.record(&pair.1)?;
            self.pairs.push_back(pair);
        }
        Ok(())
    }

    fn take(&mut self) -> Result<Duration, CudaError> {
        while !self.pairs.is_empty() {
            self.read_oldest()?;
        }
        let seconds = std::mem::take(&mut self.milliseconds) / 1e3;
        Ok(Duration::try_from_secs_f64(seconds).unwrap_or_default())
    }

    fn read_oldest(&mut self) -> Result<(), CudaError> {
        if let Some(pair) = self.pairs.pop_front() {
            self.milliseconds += pair.0.milliseconds_to(&pair.1)?;
            self.spare.push(pair);
        }
        Ok(())
    }
}
