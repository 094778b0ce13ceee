//! Times a network on inputs that are in GPU memory already, for benchmarks: what the host does to
//! bring them is left out.

use super::CudaNetwork;
use super::work::{Key, Work};
use crate::nn::BatchNorm;
use crate::nn::NnError;
use crate::nn::cuda::input::place;
use crate::nn::cuda::launches::describe;
use crate::nn::cuda::run::Run;
use crate::nn::learner::{Learner, Rule};
use crate::nn::schedule::{Part, TrainingInput};

/// A launch of a training step and how long it took.
#[derive(Clone, Debug, PartialEq)]
pub struct TimedLaunch {
    /// Kind and shape.
    pub what: String,
    pub milliseconds: f64,
}

impl CudaNetwork {
    /// Milliseconds of each of `steps` training steps on the images and targets of the last
    /// [`pass`](Learner::pass), which was of `batch` images and followed by an update: forward,
    /// backward, loss and logits read, update.
    ///
    /// # Errors
    /// When no such images are in GPU memory, or the GPU fails.
    pub fn time_steps(
        &mut self,
        batch: usize,
        rules: &[Option<Rule>],
        steps: usize,
    ) -> Result<Vec<f64>, NnError> {
        let run = self.run(Key::of_images(batch))?;
        let step = |own: &mut CudaNetwork| {
            own.keep_gradients()?;
            {
                let mut work = own.work.borrow_mut();
                own.bring_again(&work, &run)?;
                own.execute(&work, &run)?;
                work.loss(&own.gpu, &run)?;
                work.output(&own.gpu, &run)?;
            }
            own.passes = 1;
            own.update(rules, None).map(drop)
        };
        self.time(steps, step)
    }

    /// Milliseconds of each of `times` evaluations of the images of the last
    /// [`evaluate`](Learner::evaluate), [`INFERENCE_BATCH`](super::INFERENCE_BATCH) at a time:
    /// forward, logits read.
    ///
    /// # Errors
    /// When no such images are in GPU memory, or the GPU fails.
    pub fn time_evaluations(&mut self, times: usize) -> Result<Vec<f64>, NnError> {
        let run = self.run(Key::Inference(Part::Both))?;
        let evaluation = |own: &mut CudaNetwork| {
            let mut work = own.work.borrow_mut();
            own.bring_again(&work, &run)?;
            own.execute(&work, &run)?;
            work.output(&own.gpu, &run).map(drop)
        };
        self.time(times, evaluation)
    }

    /// The launches of a pass over the images and targets of the last [`pass`](Learner::pass),
    /// which was of `batch` images and followed by an update, with their times. Its gradients are
    /// dropped; running statistics move as in any pass.
    ///
    /// # Errors
    /// When no such images are in GPU memory, or the GPU fails.
    pub fn profile(&mut self, batch: usize) -> Result<Vec<TimedLaunch>, NnError> {
        let run = self.run(Key::of_images(batch))?;
        let work = self.work.borrow();
        self.bring_again(&work, &run)?;
        let times = run.profile(&self.memory_of_runs(&work))?;
        let launches = run.schedule.launches.iter().zip(times);
        let timed = launches.map(|(launch, milliseconds)| TimedLaunch {
            what: describe(launch, self.precision),
            milliseconds,
        });
        Ok(timed.collect())
    }

    /// Milliseconds from the start of each of `times` calls of `work` to the next.
    fn time(
        &mut self,
        times: usize,
        work: impl Fn(&mut CudaNetwork) -> Result<(), NnError>,
    ) -> Result<Vec<f64>, NnError> {
        let gpu = self.gpu.clone();
        let events = (0..=times).map(|_| gpu.card().timed_event());
        let events = events.collect::<Result<Vec<_>, _>>()?;
        for event in &events[..times] {
            gpu.stream().record(event)?;
            work(self)?;
        }
        gpu.stream().record(&events[times])?;
        let pairs = events.windows(2).map(|pair| Ok(pair[0].milliseconds_to(&pair[1])?));
        pairs.collect()
    }

    /// Places the last images, and in training the last targets, in the arena, whose memory other
    /// maps have had since.
    fn bring_again(&self, work: &Work, run: &Run) -> Result<(), NnError> {
        work.feed.bring_again(&self.gpu, run, &work.arena)?;
        match run.schedule.targets {
            Some(view) if work.targets.count() == view.len() => {
                place(&self.gpu, run, &work.arena, &work.targets, view)
            }
            Some(_) => Err(NnError::Input("no targets of this batch are on the GPU".to_owned())),
            None => Ok(()),
        }
    }
}

impl Key {
    /// A training step from images with the batch's statistics.
    fn of_images(batch: usize) -> Key {
        Key::Training { from: TrainingInput::Images, norm: BatchNorm::Batch, batch }
    }
}
