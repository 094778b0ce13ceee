//! The batches of an epoch and of its validation, and whether they are images or cached features.

use super::{Fit, Session};
use crate::data::{Augmentation, AugmentationPolicy, Form, Loader, LoaderOptions, order};
use crate::nn::{Learner, Number};
use crate::training::TrainingError;
use crate::training::batches::{AHEAD, Batches, FeatureLoader, form};
use crate::training::features::{FeatureCache, FeatureTable};
use crate::training::options::Options;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The form of an epoch's images for training. Batches are mixed as images, and a GPU can't make the
/// views of some policies.
pub(super) fn training_form<N: Number>(
    network: &dyn Learner<N>,
    options: &Options,
    epoch: u64,
) -> Form {
    let as_images = |policy: &AugmentationPolicy| policy.mixes(epoch) || !policy.on_gpu();
    match options.augmentation().is_some_and(as_images) {
        true => Form::Normalized,
        false => form(network),
    }
}

impl<N: Number> Fit<'_, N> {
    fn uses_cached_features(&self) -> bool {
        self.options.reads_features(self.state.epoch)
    }

    /// The remaining training batches of the epoch.
    pub(super) fn training_batches(&mut self) -> Result<Batches, TrainingError> {
        let epoch = self.state.epoch;
        let order = self.setup.order(self.session.seed, epoch);
        let first_step = self.state.step as usize * self.setup.gradient_accumulation;
        let policy = self.options.augmentation().cloned();
        let augmentation =
            policy.map(|policy| Augmentation { policy, seed: self.session.seed, epoch });
        let (batch_size, drop_last) = (self.setup.batch_size, self.setup.drop_last);
        let cache = Arc::clone(self.cache);
        if !self.uses_cached_features() {
            let form = training_form(self.network, self.options, epoch);
            let options = LoaderOptions {
                batch_size,
                augmentation,
                drop_last,
                first_step,
                ahead: AHEAD,
                form,
            };
            return Ok(Batches::Images(Loader::new(cache, order, options)));
        }
        let order = self.with_features(order, augmentation.as_ref())?;
        let next = first_step * batch_size;
        Ok(Batches::Features(FeatureLoader { cache, order, batch_size, drop_last, next }))
    }

    /// The batches of the validation split.
    pub(super) fn validation_batches(&mut self) -> Result<Batches, TrainingError> {
        let order = self.setup.validation.clone();
        let table = match self.uses_cached_features() {
            true => Some(self.feature_table(&order, None)?),
            false => None,
        };
        let form = form(self.network);
        Ok(Batches::evaluation(self.cache, order, self.setup.batch_size, table, form))
    }

    /// Samples with the tables of their features, which are extracted here where they are missing.
    fn with_features(
        &mut self,
        order: Vec<usize>,
        augmentation: Option<&Augmentation>,
    ) -> Result<Vec<(usize, Arc<FeatureTable>)>, TrainingError> {
        let views: Vec<u64> = match augmentation {
            Some(augmentation) => order::repeats(&order)
                .into_iter()
                .map(|repeat| augmentation.view(repeat).index)
                .collect(),
            None => vec![0; order.len()],
        };
        let mut tables = BTreeMap::new();
        for view in views.iter().copied().collect::<BTreeSet<u64>>() {
            let samples: Vec<usize> = order
                .iter()
                .zip(&views)
                .filter(|&(_, &other)| other == view)
                .map(|(&sample, _)| sample)
                .collect();
            let augmentation = augmentation
                .map(|augmentation| Augmentation { epoch: view, ..augmentation.clone() });
            tables.insert(view, self.feature_table(&samples, augmentation.as_ref())?);
        }
        let entry = |(sample, view): (usize, u64)| (sample, Arc::clone(&tables[&view]));
        Ok(order.into_iter().zip(views).map(entry).collect())
    }

    fn feature_table(
        &mut self,
        samples: &[usize],
        augmentation: Option<&Augmentation>,
    ) -> Result<Arc<FeatureTable>, TrainingError> {
        let Session { memo, scratch, key, events, cancel, .. } = *self.session;
        let (memo, scratch) = (memo.clone(), scratch.to_owned());
        let features = match &mut self.features {
            Some(features) => features,
            none => {
                let new = FeatureCache::new(self.network, self.cache, memo, scratch, key)?;
                none.insert(new)
            }
        };
        features.table(self.network, self.cache, samples, augmentation, (events, cancel))
    }
}
