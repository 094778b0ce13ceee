//! Plans saved and restored.

use super::*;

fn problem() -> Problem {
    Problem::new(square(32, 56, (64, 64), 3), Direction::ByInput, Precision::Tf32)
}

fn refused(saved: &str, problem: &Problem, card: &DescribedCard, limit: u64) -> String {
    match Plan::restore(problem, Target::Described(card), limit, saved) {
        Ok(_) => panic!("restored"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_restored_plan_is_the_same() {
    let Some(cudnn) = cudnn() else { return };
    for name in CARDS {
        let card = card(cudnn, name);
        for &precision in precisions(name) {
            let problem = Problem { precision, ..problem() };
            let plan = planned(&problem, &card);
            let saved = plan.save().expect("a saved plan");
            let restored = Plan::restore(&problem, Target::Described(&card), LIMIT, &saved);
            let restored = restored.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(restored.engine(), plan.engine());
            assert_eq!(restored.notes(), plan.notes());
            assert_eq!(restored.workspace(), plan.workspace());
            assert_eq!(restored.save().expect("a saved plan"), saved);
        }
    }
}

#[test]
fn planning_twice_gives_the_same_plan() {
    let Some(cudnn) = cudnn() else { return };
    let card = card(cudnn, "h100");
    let save = || planned(&problem(), &card).save().expect("a saved plan");
    assert_eq!(save(), save());
}

#[test]
fn a_plan_for_another_problem_card_or_version_is_refused() {
    let Some(cudnn) = cudnn() else { return };
    let (h100, a100) = (card(cudnn, "h100"), card(cudnn, "a100"));
    let (problem, saved) = (problem(), planned(&problem(), &h100).save().expect("a saved plan"));
    let other = Problem { accumulate: true, ..problem };
    assert!(refused(&saved, &other, &h100, LIMIT).contains("another convolution"));
    assert!(refused(&saved, &problem, &a100, LIMIT).contains("another card"));
    let version = format!("\"cudnn\":{}", cudnn.version());
    assert!(saved.contains(&version), "{saved}");
    let aged = saved.replace(&version, "\"cudnn\":90800");
    assert!(refused(&aged, &problem, &h100, LIMIT).contains("another version of cuDNN"));
    let nondeterministic = saved.replace("\"notes\":1,", "\"notes\":17,");
    assert_ne!(saved, nondeterministic);
    assert!(refused(&nondeterministic, &problem, &h100, LIMIT).contains("invalid"));
}

#[test]
fn damaged_plans_are_refused() {
    let Some(cudnn) = cudnn() else { return };
    let card = card(cudnn, "h100");
    let (problem, saved) = (problem(), planned(&problem(), &card).save().expect("a saved plan"));
    for length in (0..saved.len()).step_by(7) {
        refused(&saved[..length], &problem, &card, LIMIT);
    }
    let mut value: serde_json::Value = serde_json::from_str(&saved).expect("JSON");
    for text in ["", "{}", "[1]", "null", "{\"engine\""] {
        value["plan"] = text.into();
        let error = refused(&value.to_string(), &problem, &card, LIMIT);
        assert!(error.starts_with("the saved plan of the gradient by the input"), "{error}");
    }
}
