//! The part of an ONNX model that exported networks have, as types, and the field numbers of
//! `onnx.proto` (ONNX 1.12). `write` encodes it, `read` decodes it.

use crate::nn::Window;

/// The version of ONNX's file format.
pub(super) const IR_VERSION: i64 = 8;
/// The version of ONNX's operators.
pub(super) const OPSET: i64 = 17;

/// Name of the input.
pub(super) const IMAGES: &str = "images";
/// Name of the output with the logits.
pub(super) const LOGITS: &str = "logits";
/// Name of the output with the probabilities.
pub(super) const PROBABILITIES: &str = "probabilities";
/// Name of the first dimension of input and outputs.
pub(super) const BATCH: &str = "batch";

/// `TensorProto.DataType`: a tensor of `f32`.
pub(super) const FLOAT: i64 = 1;
/// `AttributeProto.AttributeType`: an integer.
pub(super) const INT: i64 = 2;
/// `AttributeProto.AttributeType`: a list of integers.
pub(super) const INTS: i64 = 7;

/// Fields of `ModelProto`.
pub(super) mod model {
    pub(crate) const IR_VERSION: u32 = 1;
    pub(crate) const PRODUCER_NAME: u32 = 2;
    pub(crate) const PRODUCER_VERSION: u32 = 3;
    pub(crate) const DOC_STRING: u32 = 6;
    pub(crate) const GRAPH: u32 = 7;
    pub(crate) const OPSET_IMPORT: u32 = 8;
    pub(crate) const METADATA_PROPS: u32 = 14;
}

/// Fields of `OperatorSetIdProto`.
pub(super) mod operator_set {
    pub(crate) const DOMAIN: u32 = 1;
    pub(crate) const VERSION: u32 = 2;
}

/// Fields of `StringStringEntryProto`.
pub(super) mod entry {
    pub(crate) const KEY: u32 = 1;
    pub(crate) const VALUE: u32 = 2;
}

/// Fields of `GraphProto`.
pub(super) mod graph {
    pub(crate) const NODE: u32 = 1;
    pub(crate) const NAME: u32 = 2;
    pub(crate) const INITIALIZER: u32 = 5;
    pub(crate) const INPUT: u32 = 11;
    pub(crate) const OUTPUT: u32 = 12;
}

/// Fields of `NodeProto`.
pub(super) mod node {
    pub(crate) const INPUT: u32 = 1;
    pub(crate) const OUTPUT: u32 = 2;
    pub(crate) const NAME: u32 = 3;
    pub(crate) const OP_TYPE: u32 = 4;
    pub(crate) const ATTRIBUTE: u32 = 5;
}

/// Fields of `AttributeProto`.
pub(super) mod attribute {
    pub(crate) const NAME: u32 = 1;
    pub(crate) const I: u32 = 3;
    pub(crate) const INTS: u32 = 8;
    pub(crate) const TYPE: u32 = 20;
}

/// Fields of `TensorProto`.
pub(super) mod tensor {
    pub(crate) const DIMS: u32 = 1;
    pub(crate) const DATA_TYPE: u32 = 2;
    pub(crate) const NAME: u32 = 8;
    pub(crate) const RAW_DATA: u32 = 9;
}

/// Fields of `ValueInfoProto`, `TypeProto`, `TypeProto.Tensor`, `TensorShapeProto` and its
/// `Dimension`.
pub(super) mod value {
    pub(crate) const NAME: u32 = 1;
    pub(crate) const TYPE: u32 = 2;
    pub(crate) const TENSOR_TYPE: u32 = 1;
    pub(crate) const ELEM_TYPE: u32 = 1;
    pub(crate) const SHAPE: u32 = 2;
    pub(crate) const DIM: u32 = 1;
    pub(crate) const DIM_VALUE: u32 = 1;
    pub(crate) const DIM_PARAM: u32 = 2;
}

/// A model: nodes in execution order, and what they read.
#[derive(Debug, Default, PartialEq)]
pub(super) struct OnnxModel {
    pub nodes: Vec<Node>,
    pub constants: Vec<Constant>,
    /// Shape of one image of the input: channels, height, width.
    pub input: Vec<usize>,
    /// Number of logits.
    pub classes: usize,
    /// Names and texts for programs.
    pub metadata: Vec<(String, String)>,
    /// A description for people.
    pub description: String,
}

/// One node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub operator: Operator,
    /// Names of the values that it reads.
    pub inputs: Vec<String>,
    /// Name of the value that it makes, and its own.
    pub output: String,
}

/// The ONNX operators that exported networks use, with their attributes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Operator {
    Conv(Window),
    /// With `transB`: x times the transpose of a weight, plus a bias.
    Gemm,
    MatMul,
    Add,
    Sub,
    Mul,
    Div,
    Relu,
    MaxPool(Window),
    AveragePool {
        window: Window,
        count_padding: bool,
    },
    GlobalAveragePool,
    /// Along the channels.
    Concat,
    /// Of everything but the batch.
    Flatten,
    /// Over the classes.
    Softmax,
}

/// A constant tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Constant {
    pub name: String,
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}
