//! Encodes a model as an ONNX file.

use super::protobuf::Message;
use super::schema::{
    BATCH, Constant, FLOAT, IMAGES, INT, INTS, IR_VERSION, LOGITS, Node, OPSET, OnnxModel,
    Operator, PROBABILITIES, attribute, entry, graph, model, node, operator_set, tensor, value,
};
use crate::model::ModelError;
use crate::nn::Window;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// The largest file in bytes: readers of Protocol Buffers refuse longer messages.
const LIMIT: usize = i32::MAX as usize;

/// Writes the file.
///
/// # Errors
/// If it would be larger than 2 GB, or can't be written.
pub(super) fn write(model: &OnnxModel, path: &Path) -> Result<(), ModelError> {
    let message = encoded(model);
    check_length(message.length(), path)?;
    let written = || {
        let mut out = BufWriter::new(File::create(path)?);
        message.write(&mut out)?;
        out.flush()?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    };
    written()
        .map_err(|error| ModelError::new(format!("failed to write {}: {error}", path.display())))
}

fn check_length(length: usize, path: &Path) -> Result<(), ModelError> {
    if length <= LIMIT {
        return Ok(());
    }
    Err(ModelError::new(format!(
        "{} would have {length} bytes, and an ONNX file can't have more than {LIMIT}; export safetensors instead",
        path.display()
    )))
}

fn encoded(source: &OnnxModel) -> Message<'_> {
    let opset =
        Message::default().text(operator_set::DOMAIN, "").integer(operator_set::VERSION, OPSET);
    let whole = Message::default()
        .integer(model::IR_VERSION, IR_VERSION)
        .text(model::PRODUCER_NAME, "pipe")
        .text(model::PRODUCER_VERSION, env!("CARGO_PKG_VERSION"))
        .text(model::DOC_STRING, &source.description);
    let whole = source.metadata.iter().fold(whole, |whole, (key, text)| {
        let entry = Message::default().text(entry::KEY, key).text(entry::VALUE, text);
        whole.message(model::METADATA_PROPS, entry)
    });
    // Last, so that a file cut short anywhere lacks it.
    whole.message(model::GRAPH, graph(source)).message(model::OPSET_IMPORT, opset)
}

fn graph(source: &OnnxModel) -> Message<'_> {
    let mut whole = Message::default().text(graph::NAME, "network");
    for one in &source.nodes {
        whole = whole.message(graph::NODE, node(one));
    }
    for one in &source.constants {
        whole = whole.message(graph::INITIALIZER, constant(one));
    }
    whole = whole.message(graph::INPUT, described(IMAGES, &source.input));
    whole = whole.message(graph::OUTPUT, described(LOGITS, &[source.classes]));
    whole.message(graph::OUTPUT, described(PROBABILITIES, &[source.classes]))
}

fn node(source: &Node) -> Message<'static> {
    let mut whole = Message::default();
    for input in &source.inputs {
        whole = whole.text(node::INPUT, input);
    }
    let (op_type, attributes) = operator(source.operator);
    whole = whole
        .text(node::OUTPUT, &source.output)
        .text(node::NAME, &source.output)
        .text(node::OP_TYPE, op_type);
    attributes.into_iter().fold(whole, |whole, one| whole.message(node::ATTRIBUTE, one))
}

/// ONNX's name of an operator, and its attributes.
fn operator(operator: Operator) -> (&'static str, Vec<Message<'static>>) {
    let axis = || vec![integer("axis", 1)];
    match operator {
        Operator::Conv(over) => ("Conv", window(over)),
        Operator::Gemm => ("Gemm", vec![integer("transB", 1)]),
        Operator::MatMul => ("MatMul", Vec::new()),
        Operator::Add => ("Add", Vec::new()),
        Operator::Sub => ("Sub", Vec::new()),
        Operator::Mul => ("Mul", Vec::new()),
        Operator::Div => ("Div", Vec::new()),
        Operator::Relu => ("Relu", Vec::new()),
        Operator::MaxPool(over) => ("MaxPool", window(over)),
        Operator::AveragePool { window: over, count_padding } => {
            let mut attributes = window(over);
            attributes.push(integer("count_include_pad", i64::from(count_padding)));
            ("AveragePool", attributes)
        }
        Operator::GlobalAveragePool => ("GlobalAveragePool", Vec::new()),
        Operator::Concat => ("Concat", axis()),
        Operator::Flatten => ("Flatten", axis()),
        Operator::Softmax => ("Softmax", axis()),
    }
}

fn window(Window { kernel, stride, padding }: Window) -> Vec<Message<'static>> {
    vec![
        integers("kernel_shape", &[kernel.0, kernel.1]),
        integers("strides", &[stride.0, stride.1]),
        // Top, left, bottom, right.
        integers("pads", &[padding.0, padding.1, padding.0, padding.1]),
    ]
}

fn integer(name: &str, number: i64) -> Message<'static> {
    Message::default()
        .text(attribute::NAME, name)
        .integer(attribute::I, number)
        .integer(attribute::TYPE, INT)
}

fn integers(name: &str, numbers: &[usize]) -> Message<'static> {
    let named = Message::default().text(attribute::NAME, name);
    let whole =
        numbers.iter().fold(named, |whole, &one| whole.integer(attribute::INTS, one as i64));
    whole.integer(attribute::TYPE, INTS)
}

fn constant(source: &Constant) -> Message<'_> {
    let shape = source.shape.iter();
    shape
        .fold(Message::default(), |whole, &side| whole.integer(tensor::DIMS, side as i64))
        .integer(tensor::DATA_TYPE, FLOAT)
        .text(tensor::NAME, &source.name)
        .floats(tensor::RAW_DATA, &source.values)
}

/// The name and the type of an input or output: `f32`, (batch, `shape`…).
fn described(name: &str, shape: &[usize]) -> Message<'static> {
    let batch = Message::default().text(value::DIM_PARAM, BATCH);
    let sides = shape.iter().map(|&side| Message::default().integer(value::DIM_VALUE, side as i64));
    let shape = std::iter::once(batch)
        .chain(sides)
        .fold(Message::default(), |shape, side| shape.message(value::DIM, side));
    let tensor = Message::default().integer(value::ELEM_TYPE, FLOAT).message(value::SHAPE, shape);
    let kind = Message::default().message(value::TENSOR_TYPE, tensor);
    Message::default().text(value::NAME, name).message(value::TYPE, kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_above_two_gigabytes_is_refused() {
        let path = Path::new("model.onnx");
        assert!(check_length(LIMIT, path).is_ok());
        let error = check_length(LIMIT + 1, path).unwrap_err().to_string();
        assert_eq!(
            error,
            "model.onnx would have 2147483648 bytes, and an ONNX file can't have more than 2147483647; export safetensors \
             instead"
        );
    }
}
