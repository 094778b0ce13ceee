//! What can't be planned or executed, in sentences.

use super::*;
use crate::cuda::convolution::descriptor::Descriptor;
use cudarc::cudnn::sys::cudnnBackendAttributeName_t as Attribute;
use cudarc::cudnn::sys::cudnnBackendDescriptorType_t as Kind;
use std::io::Write as _;

fn problem(precision: Precision) -> Problem {
    Problem::new(square(32, 56, (64, 64), 3), Direction::Forward, precision)
}

fn error(problem: &Problem, card: &DescribedCard, limit: u64) -> ConvolutionError {
    match Plan::new(problem, Target::Described(card), limit) {
        Ok(plan) => panic!("{} was planned", plan.problem()),
        Err(error) => error,
    }
}

#[test]
fn no_bf16_before_ampere() {
    let Some(cudnn) = cudnn() else { return };
    let error = error(&problem(Precision::Bf16), &card(cudnn, "t4"), LIMIT);
    assert_eq!(
        error.to_string(),
        "Tesla T4 (compute capability 7.5) can't compute in bf16, which needs 8.0 or newer"
    );
    assert_eq!(error.help(), Some("train with `precision = \"f32\"`"));
}

#[test]
fn workspaces_keep_the_limit() {
    let Some(cudnn) = cudnn() else { return };
    let card = card(cudnn, "a100");
    let (mut fitting, mut larger) = (0, 0);
    for shape in grid::shapes(32) {
        for direction in Direction::ALL {
            for precision in Precision::ALL {
                let problem = Problem::new(shape, direction, precision);
                match Plan::new(&problem, Target::Described(&card), 0) {
                    Ok(plan) if plan.workspace() == 0 => fitting += 1,
                    Err(ConvolutionError::Workspace { limit: 0, smallest: 1.., .. }) => larger += 1,
                    Ok(plan) => panic!("{problem} got {} bytes", plan.workspace()),
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
    let _ = writeln!(std::io::stderr(), "without a workspace: {fitting} planned, {larger} refused");
}

#[test]
fn an_invalid_shape_never_reaches_cudnn() {
    let Some(cudnn) = cudnn() else { return };
    let mut problem = problem(Precision::F32);
    problem.shape.output.height = 57;
    let error = error(&problem, &card(cudnn, "a100"), LIMIT);
    assert!(matches!(error, ConvolutionError::Shape { .. }), "{error}");
}

#[test]
fn invalid_descriptions_of_cards() {
    let Some(cudnn) = cudnn() else { return };
    for (json, expected) in [
        ("", "not JSON"),
        ("[]", "`deviceName` is missing or invalid"),
        (r#"{"deviceName": "x"}"#, "`deviceVer` is missing or invalid"),
        (r#"{"deviceName": "x", "deviceVer": 900}"#, "the described card"),
    ] {
        let error = DescribedCard::new(cudnn, json).err().expect("an error").to_string();
        assert!(error.starts_with("invalid description of a card: "), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn flipped_attributes() {
    let Some(cudnn) = cudnn() else { return };
    let tensor = || {
        let kind = Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR;
        Descriptor::new(cudnn, kind, "the input's map").expect("a descriptor")
    };
    let dimensions = Attribute::CUDNN_ATTR_TENSOR_DIMENSIONS;
    let wrong = Attribute::CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS;
    for (error, expected) in [
        (tensor().ints(wrong, &[2]).err(), "failed to set CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS of"),
        (tensor().float(dimensions, 1.0).err(), "failed to set CUDNN_ATTR_TENSOR_DIMENSIONS of"),
        (tensor().finalize().err(), "failed to finalize the input's map: CUDNN_STATUS_"),
        (tensor().int(dimensions).err(), "failed to read CUDNN_ATTR_TENSOR_DIMENSIONS of the"),
    ] {
        let error = error.expect("an error").to_string();
        assert!(error.starts_with("cuDNN ") && error.contains(expected), "{error}");
        assert!(error.contains("CUDNN_STATUS_"), "{error}");
    }
}

#[test]
fn a_plan_for_a_described_card_is_not_executed() {
    let Some(cudnn) = cudnn() else { return };
    let plan = planned(&problem(Precision::F32), &card(cudnn, "a100"));
    let operands = Operands { x: 256, w: 256, y: 256, workspace: 256 };
    // SAFETY: without a handle, nothing is executed.
    #[expect(unsafe_code, reason = "takes pointers")]
    let error = unsafe { plan.execute(&operands) }.expect_err("an error").to_string();
    assert!(error.ends_with("was planned for a described card, and can't be executed"), "{error}");
}
