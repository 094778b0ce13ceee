//! Images per second of each stage, from the events of a run: the mean over the epochs of a
//! training, else the images that the stage counted, by its run time.

use crate::events::Event;
use std::collections::BTreeMap;

/// The scalar that a training emits after each epoch.
const SCALAR: &str = "images_per_second";

/// The events' facts so far, by stage.
#[derive(Default)]
pub(super) struct Throughput(BTreeMap<String, Counted>);

#[derive(Default)]
struct Counted {
    /// The most images that one task counted.
    images: u64,
    /// Sum and number of the rates of epochs.
    rates: (f64, u32),
}

impl Throughput {
    pub(super) fn record(&mut self, event: &Event) {
        match event {
            Event::Progress { stage, done, unit, .. } if unit == "images" => {
                let counted = self.0.entry(stage.clone()).or_default();
                counted.images = counted.images.max(*done);
            }
            Event::Scalar { stage, name, value, .. } if name == SCALAR => {
                let (sum, count) = &mut self.0.entry(stage.clone()).or_default().rates;
                (*sum, *count) = (*sum + value, *count + 1);
            }
            _ => {}
        }
    }

    /// The rate of a stage that ran for `seconds`; none if it counted no images, or didn't run.
    pub(super) fn of(&self, stage: &str, seconds: f64) -> Option<f64> {
        let counted = self.0.get(stage).filter(|_| seconds > 0.0)?;
        let (sum, count) = counted.rates;
        let rate = match count {
            0 => counted.images as f64 / seconds,
            _ => sum / f64::from(count),
        };
        (rate > 0.0).then(|| (rate * 10.0).round() / 10.0)
    }
}
