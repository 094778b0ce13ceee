//! Curves against scikit-learn, by hand and for random scores.

use super::*;
use crate::metrics::{Scorer, golden};
use proptest::prelude::*;

fn scored(samples: &[(u32, Vec<f32>)], names: &[String]) -> (Curves, Vec<Option<Areas>>) {
    let mut scorer = CurveScorer::new(names);
    samples.iter().for_each(|(label, row)| scorer.push(*label, row));
    scorer.finish("test")
}

fn close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    let is_close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-8;
    assert!(found.iter().zip(expected).all(is_close), "{found:?} is not {expected:?}");
}

/// With scikit-learn 1.9.1, after the lines of `golden.rs`:
///
/// ```python
/// from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
/// from sklearn.preprocessing import label_binarize
/// y = label_binarize(labels, classes=range(7))
/// for score in (roc_auc_score, average_precision_score):
///     area = [score(y[:, c], p[:, c]) for c in range(6)]
///     print(area, np.mean(area), score(y.ravel(), p.ravel()))
/// for c in (0, 5):
///     print(np.interp([0.1, 0.3, 0.5, 0.9], *roc_curve(y[:, c], p[:, c])[:2]))
/// ```
#[test]
fn areas_equal_scikit_learn() {
    let (curves, areas) = scored(&golden::samples(), &golden::names());
    assert!(areas[6].is_none() && curves.left_out == ["class 6"]);
    let areas: Vec<Areas> = areas.into_iter().flatten().collect();
    let auc: Vec<f64> = areas.iter().map(|one| one.roc_auc).collect();
    close(
        &auc,
        &[0.880341880342, 0.811428571429, 0.923611111111, 0.911255411255, 0.926470588235, 0.5],
    );
    let precision: Vec<f64> = areas.iter().map(|one| one.average_precision).collect();
    close(
        &precision,
        &[0.779258825639, 0.826315789474, 0.582142857143, 0.804332259219, 0.766666666667, 0.125],
    );
    let averages = |list: &[Curve]| [list[0].area, list[1].area];
    close(&averages(&curves.roc), &[0.825517927062, 0.803541666667]);
    close(&averages(&curves.precision_recall), &[0.647286066357, 0.577500050691]);
    let of = |list: &[Curve]| list.iter().map(|curve| curve.of.clone()).collect::<Vec<_>>();
    let class = |class: u32| CurveOf::Class(format!("class {class}"));
    // The class whose scores are all tied is worth nothing: its curve is the diagonal.
    let worst = [CurveOf::Macro, CurveOf::Micro, class(5)];
    assert_eq!(of(&curves.roc)[..3], worst);
    assert_eq!((of(&curves.roc).len(), curves.roc[2].area), (5, 0.5));
    assert_eq!(curves.roc[2].points()[50], (0.25, 0.25));
}

#[test]
fn sampled_curves_equal_scikit_learn() {
    let names = ["0", "others"].map(str::to_owned);
    // Class 0 against the others; where their probability is 1 - p, both curves are the same.
    let samples: Vec<(u32, Vec<f32>)> = golden::samples()
        .into_iter()
        .map(|(label, row)| (label.min(1), vec![row[0], 1.0 - row[0]]))
        .collect();
    let (curves, _) = scored(&samples, &names);
    let first = curves.roc.iter().find(|curve| curve.of == CurveOf::Class("0".into())).unwrap();
    let expected = [0.461538461538, 0.923076923077, 1.0, 1.0];
    let at = [20, 60, 100, 180].map(|at| first.values[at]);
    assert!(at.iter().zip(expected).all(|(a, b)| (a - b).abs() < 6e-5), "{at:?}");
}

#[test]
fn areas_are_among_the_metrics() {
    let (names, samples) = (golden::names(), golden::samples());
    let mut scorer = Scorer::new(&names);
    samples.iter().for_each(|(label, row)| assert!(scorer.push(*label, row).is_ok()));
    let mut metrics = scorer.finish().unwrap();
    assert_eq!((metrics.roc_auc, metrics.calibration_error), (None, None));
    let (curves, areas) = scored(&samples, &names);
    metrics.add_curves(&curves, &areas);
    assert_eq!(metrics.roc_auc, Some(curves.roc[0].area));
    assert_eq!(metrics.per_class[0].roc_auc, areas[0].map(|one| one.roc_auc));
    assert_eq!(metrics.per_class[6].average_precision, None);
    assert_eq!(metrics.calibration_error, Some(curves.calibration.expected_error));
}

#[test]
fn one_class_and_no_images_have_no_curves() {
    let name = ["a".to_owned()];
    let (curves, areas) = scored(&[(0, vec![1.0])], &name);
    assert_eq!((curves.roc.len(), areas, curves.left_out), (0, vec![None], name.to_vec()));
    assert_eq!(scored(&[], &golden::names()).0.precision_recall.len(), 0);
}

#[test]
fn too_many_probabilities_have_a_calibration_but_no_curves() {
    let names = golden::names();
    let mut scorer = CurveScorer::new(&names);
    scorer.cells = vec![0; MAX_CELLS - 3];
    golden::samples().iter().for_each(|(label, row)| scorer.push(*label, row));
    let (curves, areas) = scorer.finish("test");
    assert!(curves.are_missing() && curves.precision_recall.is_empty());
    assert!(areas.iter().all(Option::is_none) && curves.calibration.expected_error > 0.0);
}

#[test]
fn a_written_file_reads_back_and_a_truncated_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("curves.json");
    let (curves, _) = scored(&golden::samples(), &golden::names());
    let text = curves.to_json();
    std::fs::write(&path, &text).unwrap();
    let mut read = Curves::read(&path).unwrap();
    // Areas are written with all digits.
    assert_eq!(read, curves);
    for length in (0..text.trim_end().len()).step_by(97) {
        std::fs::write(&path, &text[..length]).unwrap();
        assert!(Curves::read(&path).is_err());
    }
    read.format = 2;
    std::fs::write(&path, read.to_json()).unwrap();
    assert!(Curves::read(&path).is_err());
}

/// Labels and probabilities of which many are equal.
fn any_samples() -> impl Strategy<Value = Vec<(u32, Vec<f32>)>> {
    let row = prop::collection::vec((0u8..6).prop_map(|p| f32::from(p) / 8.0), 3);
    prop::collection::vec((0u32..3, row), 0..40)
}

proptest! {
    #[test]
    fn an_area_is_the_share_of_pairs_in_the_right_order(samples in any_samples()) {
        let names = ["a", "b", "c"].map(str::to_owned);
        let (_, areas) = scored(&samples, &names);
        for (class, areas) in areas.iter().enumerate() {
            let scores = |positive: bool| samples.iter().filter(move |(label, _)| (*label == class as u32) == positive).map(move |(_, row)| row[class]);
            let pairs: Vec<f64> = scores(true)
                .flat_map(|one| scores(false).map(move |other| if one > other { 1.0 } else if one == other { 0.5 } else { 0.0 }))
                .collect();
            prop_assert_eq!(areas.is_none(), pairs.is_empty());
            if let Some(areas) = areas {
                let share = pairs.iter().sum::<f64>() / pairs.len() as f64;
                prop_assert!((areas.roc_auc - share).abs() < 1e-12);
                prop_assert!((0.0..=1.0).contains(&areas.average_precision));
            }
        }
    }

    #[test]
    fn curves_have_their_form_and_depend_on_no_thread_count(samples in any_samples()) {
        let names = ["a", "b", "c"].map(str::to_owned);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| scored(&samples, &names).0.to_json())
        };
        prop_assert_eq!(with(1), with(3));
        let (curves, _) = scored(&samples, &names);
        for curve in curves.roc.iter().chain(&curves.precision_recall) {
            prop_assert_eq!(curve.values.len(), 201);
            prop_assert!(curve.values.iter().all(|value| (0.0..=1.0).contains(value)));
        }
        for curve in &curves.roc {
            prop_assert!(curve.values.windows(2).all(|pair| pair[0] <= pair[1]));
            // A sampled step is at most a step of the grid off.
            let mean = curve.values.iter().sum::<f64>() / curve.values.len() as f64;
            prop_assert!((mean - curve.area).abs() < 0.01, "{} {}", mean, curve.area);
        }
    }
}
