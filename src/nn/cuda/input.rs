//! Brings inputs to the GPU: images and features as they are; stored squares through pinned
//! memory, the next ones while the GPU computes, and makes images of them there.

use super::gpu::Gpu;
use super::kernels::over_elements;
use super::launches::suffix;
use super::run::Run;
use super::update::write;
use crate::cuda::Argument::{Address, U32, Words};
use crate::cuda::{Arrived, Buffer, Ring};
use crate::nn::NnError;
use crate::nn::learner::{Input, Records, Views};
use crate::nn::schedule::View;
use std::ops::Range;
use std::time::Duration;

/// Pinned slots: one on its way, one that is filled meanwhile.
const SLOTS: usize = 2;

/// Bytes of the struct `Recipe` of the kernels.
const RECIPE: usize = 168;

/// Inputs on their way to a run.
pub(super) struct Feed {
    /// Images or features as the host has them.
    plain: Buffer<f32>,
    /// A mean for each view.
    means: Buffer<f32>,
    /// The way of records, for as many as came so far.
    way: Option<Way>,
}

/// Pinned slots of one size.
struct Way {
    ring: Ring,
    bytes: usize,
    /// The records that are on their way.
    staged: Option<u64>,
}

impl Feed {
    pub(super) fn new(gpu: &Gpu) -> Result<Feed, NnError> {
        let card = gpu.card();
        Ok(Feed { plain: card.allocate(0)?, means: card.allocate(0)?, way: None })
    }

    /// Brings values into the input of a run; rows that are missing are zeros.
    pub(super) fn bring(
        &mut self,
        gpu: &Gpu,
        run: &Run,
        arena: &Buffer<u8>,
        values: &[f32],
    ) -> Result<(), NnError> {
        let view = run.schedule.input;
        self.reserve_plain(gpu, view.len())?;
        self.plain.write(gpu.stream(), 0, values)?;
        self.plain.clear_range(gpu.stream(), values.len()..view.len())?;
        place(gpu, run, arena, &self.plain, view)
    }

    /// Brings the values of the last [`bring`](Self::bring), which are in GPU memory still.
    pub(super) fn bring_again(
        &self,
        gpu: &Gpu,
        run: &Run,
        arena: &Buffer<u8>,
    ) -> Result<(), NnError> {
        let view = run.schedule.input;
        if self.plain.count() < view.len() {
            return Err(NnError::Input("no input of this size is on the GPU".to_owned()));
        }
        place(gpu, run, arena, &self.plain, view)
    }

    /// Makes images of records in the input of a run.
    pub(super) fn bring_records(
        &mut self,
        gpu: &Gpu,
        run: &Run,
        arena: &Buffer<u8>,
        records: &Records,
        side: usize,
    ) -> Result<(), NnError> {
        if self.way.as_ref().and_then(|way| way.staged) != Some(records.id) {
            self.drop_staged()?;
            self.stage(gpu, records)?;
        }
        let count = records.recipes.len() / RECIPE;
        if records.views.needs_means && self.means.count() < count {
            self.means = gpu.card().allocate(count)?;
        }
        let way = self.way.as_mut().expect("records were staged");
        let arrived = receive(way)?;
        let made = make(gpu, run, arena, &arrived, &self.means, (records, side));
        way.ring.release(arrived)?;
        made
    }

    /// Allocates what brings batches of squares of `side` pixels.
    pub(super) fn reserve_records(
        &mut self,
        gpu: &Gpu,
        batch: usize,
        side: usize,
    ) -> Result<(), NnError> {
        self.way_of(gpu, batch * (RECIPE + side * side * 3)).map(drop)
    }

    /// Allocates what brings this many values.
    pub(super) fn reserve_plain(&mut self, gpu: &Gpu, count: usize) -> Result<(), NnError> {
        if self.plain.count() < count {
            self.plain = gpu.card().allocate(count)?;
        }
        Ok(())
    }

    /// Slots of at least this many bytes.
    fn way_of(&mut self, gpu: &Gpu, bytes: usize) -> Result<&mut Way, NnError> {
        if self.way.as_ref().is_none_or(|way| way.bytes < bytes) {
            // Freed first, so that both needn't fit.
            self.way = None;
            self.way =
                Some(Way { ring: Ring::new(gpu.card(), SLOTS, bytes)?, bytes, staged: None });
        }
        Ok(self.way.as_mut().expect("it was made where there was none"))
    }

    /// Starts to copy records, for [`bring_records`](Self::bring_records).
    pub(super) fn stage(&mut self, gpu: &Gpu, records: &Records) -> Result<(), NnError> {
        let bytes = records.recipes.len() + records.squares.len();
        let way = self.way_of(gpu, bytes)?;
        let mut slot = way.ring.take()?.expect("a slot is free after each release");
        // Recipes first: they hold 64-bit numbers.
        let (recipes, squares) = slot.bytes_mut()[..bytes].split_at_mut(records.recipes.len());
        recipes.copy_from_slice(records.recipes);
        squares.copy_from_slice(records.squares);
        way.ring.submit(slot, bytes)?;
        way.staged = Some(records.id);
        Ok(())
    }

    /// From here on the GPU has nothing to do until the next records arrive.
    pub(super) fn idle(&mut self) -> Result<(), NnError> {
        match &mut self.way {
            Some(way) => Ok(way.ring.idle()?),
            None => Ok(()),
        }
    }

    /// See [`Learner::waited`](crate::nn::Learner::waited).
    pub(super) fn waited(&mut self) -> Result<Option<Duration>, NnError> {
        let way = self.way.as_mut();
        way.map(|way| Ok(way.ring.waited()?)).transpose()
    }

    /// Lets go of records that were staged and are not what comes next.
    fn drop_staged(&mut self) -> Result<(), NnError> {
        if let Some(way) = self.way.as_mut().filter(|way| way.staged.is_some()) {
            let arrived = receive(way)?;
            way.ring.release(arrived)?;
        }
        Ok(())
    }
}

fn receive(way: &mut Way) -> Result<Arrived, NnError> {
    way.staged = None;
    Ok(way.ring.receive()?.expect("records were submitted"))
}

/// Copies values without gaps into a view of the arena, in its type.
pub(super) fn place(
    gpu: &Gpu,
    run: &Run,
    arena: &Buffer<u8>,
    from: &Buffer<f32>,
    to: View,
) -> Result<(), NnError> {
    let arguments = [
        Address(from.address()),
        U32(to.channels as u32),
        Address(run.address(arena, to)),
        U32(to.stride as u32),
        U32(to.rows as u32),
        U32(to.channels as u32),
    ];
    let name = format!("from_f32_{}", suffix(run.element(to)));
    let blocks = over_elements(to.rows, to.channels);
    gpu.kernels().launch(gpu.stream(), &name, blocks, &arguments)
}

/// Makes images of `records`, which have arrived, in the input of a run; images that are missing are
/// zeros.
fn make(
    gpu: &Gpu,
    run: &Run,
    arena: &Buffer<u8>,
    arrived: &Arrived,
    means: &Buffer<f32>,
    (records, side): (&Records, usize),
) -> Result<(), NnError> {
    let view = run.schedule.input;
    let (recipes, count) = (arrived.address(), records.recipes.len() / RECIPE);
    let squares = recipes + records.recipes.len() as u64;
    if count * side * side < view.rows {
        clear(gpu, run, arena, view)?;
    }
    let pixels = pixels(&records.views, count, side, view.channels);
    let (kernels, stream) = (gpu.kernels(), gpu.stream());
    let mut means_at = 0;
    if records.views.needs_means {
        means_at = means.address();
        let arguments = [squares, recipes, means_at].map(Address);
        let arguments = [&arguments[..], &[Words(&pixels)]].concat();
        kernels.launch(stream, "augment_means", count, &arguments)?;
    }
    let read = [squares, recipes, means_at].map(Address);
    let written = [Address(run.address(arena, view)), U32(view.stride as u32), Words(&pixels)];
    let name = format!("augment_{}", suffix(run.element(view)));
    let blocks = count * (side * side).div_ceil(256);
    kernels.launch(stream, &name, blocks, &[&read[..], &written].concat())
}

fn clear(gpu: &Gpu, run: &Run, arena: &Buffer<u8>, view: View) -> Result<(), NnError> {
    let start = (run.address(arena, view) - arena.address()) as usize;
    let bytes = view.len() * run.element(view).bytes();
    Ok(arena.clear_range(gpu.stream(), start..start + bytes)?)
}

/// The words of the struct `Pixels` of the kernels.
fn pixels(views: &Views, count: usize, side: usize, channels: usize) -> [u32; 11] {
    let sizes = [count, views.size, side, channels].map(|number| number as u32);
    let numbers = views.scale.into_iter().chain(views.shift).map(f32::to_bits);
    let all = sizes.into_iter().chain([views.changes_colors.into()]).chain(numbers);
    let mut words = [0; 11];
    words.iter_mut().zip(all).for_each(|(word, value)| *word = value);
    words
}

/// Copies targets into a run.
pub(super) fn bring_targets(
    gpu: &Gpu,
    run: &Run,
    arena: &Buffer<u8>,
    staging: &mut Buffer<f32>,
    targets: &[f32],
) -> Result<(), NnError> {
    let Some(view) = run.schedule.targets else { return Ok(()) };
    write(gpu, staging, targets)?;
    place(gpu, run, arena, staging, view)
}

/// Some rows of an input of `batch` rows. Records that are a part of others are others.
pub(super) fn rows<'a>(input: &Input<'a>, batch: usize, rows: Range<usize>) -> Input<'a> {
    fn part<T>(all: &[T], batch: usize, rows: Range<usize>) -> &[T] {
        let width = all.len() / batch.max(1);
        &all[rows.start * width..rows.end * width]
    }
    match *input {
        Input::Images(images) => Input::Images(part(images, batch, rows)),
        Input::Features(all) => Input::Features(part(all, batch, rows)),
        Input::Records(records) => Input::Records(Records {
            id: if rows.len() == batch { records.id } else { u64::MAX },
            squares: part(records.squares, batch, rows.clone()),
            recipes: part(records.recipes, batch, rows),
            ..records
        }),
    }
}
