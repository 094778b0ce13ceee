//! Decodes an ONNX file that `write` made: everything else in one is an error by name. Fields that
//! don't change what a network computes are skipped.

use super::protobuf::{Fields, Value, floats};
use super::schema::{
    BATCH, Constant, FLOAT, IMAGES, IR_VERSION, LOGITS, Node, OPSET, OnnxModel, Operator,
    PROBABILITIES, attribute, entry, graph, model, node, operator_set, tensor, value,
};
use crate::nn::Window;
use std::collections::BTreeMap;

/// Largest side of a window, far above any real one.
const MAX_SIDE: usize = 1 << 16;

/// The model in a file's bytes.
///
/// # Errors
/// A message, when they are incomplete or have something that isn't supported.
pub(super) fn read(bytes: &[u8]) -> Result<OnnxModel, String> {
    let mut found = OnnxModel::default();
    let (mut versions, mut has_graph) = (Vec::new(), false);
    for field in Fields::of(bytes) {
        match field? {
            (model::IR_VERSION, Value::Integer(IR_VERSION)) => {}
            (model::IR_VERSION, other) => return Err(unsupported("the format version", other)),
            (model::DOC_STRING, Value::Bytes(text)) => found.description = string(text)?,
            (model::OPSET_IMPORT, Value::Bytes(set)) => versions.push(opset(set)?),
            (model::METADATA_PROPS, Value::Bytes(pair)) => found.metadata.push(metadata(pair)?),
            (model::GRAPH, Value::Bytes(bytes)) => {
                read_graph(bytes, &mut found)?;
                has_graph = true;
            }
            _ => {}
        }
    }
    match (has_graph, versions.as_slice()) {
        (true, [OPSET]) => Ok(found),
        (false, _) => Err("it has no graph".to_owned()),
        (true, others) => Err(unsupported("its version of the operators", others)),
    }
}

fn unsupported(subject: &str, found: impl std::fmt::Debug) -> String {
    format!("{subject} isn't supported: {found:?}")
}

fn string(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|error| format!("a text isn't UTF-8: {error}"))
}

fn size(number: i64) -> Result<usize, String> {
    usize::try_from(number).map_err(|_| format!("a size is {number}"))
}

fn opset(bytes: &[u8]) -> Result<i64, String> {
    let mut version = 0;
    for field in Fields::of(bytes) {
        match field? {
            (operator_set::VERSION, Value::Integer(number)) => version = number,
            (operator_set::DOMAIN, Value::Bytes(b"")) => {}
            (_, other) => return Err(unsupported("a set of operators", other)),
        }
    }
    Ok(version)
}

fn metadata(bytes: &[u8]) -> Result<(String, String), String> {
    let mut pair = (String::new(), String::new());
    for field in Fields::of(bytes) {
        match field? {
            (entry::KEY, Value::Bytes(text)) => pair.0 = string(text)?,
            (entry::VALUE, Value::Bytes(text)) => pair.1 = string(text)?,
            _ => {}
        }
    }
    Ok(pair)
}

fn read_graph(bytes: &[u8], found: &mut OnnxModel) -> Result<(), String> {
    let mut described = BTreeMap::new();
    for field in Fields::of(bytes) {
        match field? {
            (graph::NODE, Value::Bytes(bytes)) => found.nodes.push(read_node(bytes)?),
            (graph::INITIALIZER, Value::Bytes(bytes)) => {
                found.constants.push(read_constant(bytes)?);
            }
            (graph::INPUT | graph::OUTPUT, Value::Bytes(bytes)) => {
                described.extend([read_description(bytes)?]);
            }
            _ => {}
        }
    }
    let mut shape = |name: &str| {
        described.remove(name).ok_or_else(|| format!("it has no input or output `{name}`"))
    };
    found.input = shape(IMAGES)?;
    let [logits, probabilities] = [shape(LOGITS)?, shape(PROBABILITIES)?];
    match logits.as_slice() {
        &[classes] if logits == probabilities && found.input.len() == 3 => found.classes = classes,
        _ => return Err(unsupported("the shape of its outputs", &logits)),
    }
    match described.first_key_value() {
        Some((name, _)) => Err(unsupported("an input or output", name)),
        None => Ok(()),
    }
}

fn read_node(bytes: &[u8]) -> Result<Node, String> {
    let (mut inputs, mut outputs, mut op_type) = (Vec::new(), Vec::new(), String::new());
    let mut attributes = BTreeMap::new();
    for field in Fields::of(bytes) {
        match field? {
            (node::INPUT, Value::Bytes(text)) => inputs.push(string(text)?),
            (node::OUTPUT, Value::Bytes(text)) => outputs.push(string(text)?),
            (node::OP_TYPE, Value::Bytes(text)) => op_type = string(text)?,
            (node::ATTRIBUTE, Value::Bytes(bytes)) => {
                attributes.extend([read_attribute(bytes)?]);
            }
            _ => {}
        }
    }
    let mut attributes = Attributes(attributes);
    let operator = attributes.operator(&op_type)?;
    if let Some((name, _)) = attributes.0.first_key_value() {
        return Err(unsupported(&format!("an attribute of {op_type}"), name));
    }
    match <[String; 1]>::try_from(outputs) {
        Ok([output]) => Ok(Node { operator, inputs, output }),
        Err(outputs) => Err(unsupported(&format!("the number of outputs of {op_type}"), outputs)),
    }
}

/// The integers of an attribute, by its name. An attribute of another type has none.
fn read_attribute(bytes: &[u8]) -> Result<(String, Vec<i64>), String> {
    let (mut name, mut numbers) = (String::new(), Vec::new());
    for field in Fields::of(bytes) {
        match field? {
            (attribute::NAME, Value::Bytes(text)) => name = string(text)?,
            (attribute::I | attribute::INTS, Value::Integer(number)) => numbers.push(number),
            _ => {}
        }
    }
    Ok((name, numbers))
}

/// The attributes of a node that weren't read yet.
struct Attributes(BTreeMap<String, Vec<i64>>);

impl Attributes {
    fn operator(&mut self, op_type: &str) -> Result<Operator, String> {
        let operator = match op_type {
            "Conv" => Operator::Conv(self.window()?),
            "Gemm" => {
                self.expect("transB", 1)?;
                Operator::Gemm
            }
            "MatMul" => Operator::MatMul,
            "Add" => Operator::Add,
            "Sub" => Operator::Sub,
            "Mul" => Operator::Mul,
            "Div" => Operator::Div,
            "Relu" => Operator::Relu,
            "MaxPool" => Operator::MaxPool(self.window()?),
            "AveragePool" => {
                let [count_padding] = self.integers("count_include_pad")?;
                Operator::AveragePool { window: self.window()?, count_padding: count_padding != 0 }
            }
            "GlobalAveragePool" => Operator::GlobalAveragePool,
            "Concat" => {
                self.expect("axis", 1)?;
                Operator::Concat
            }
            "Flatten" => {
                self.expect("axis", 1)?;
                Operator::Flatten
            }
            "Softmax" => {
                self.expect("axis", 1)?;
                Operator::Softmax
            }
            other => return Err(unsupported("the operator", other)),
        };
        Ok(operator)
    }

    fn integers<const N: usize>(&mut self, name: &str) -> Result<[i64; N], String> {
        let numbers = self.0.remove(name).unwrap_or_default();
        <[i64; N]>::try_from(numbers.as_slice())
            .map_err(|_| unsupported(&format!("the attribute {name}"), &numbers))
    }

    fn expect(&mut self, name: &str, expected: i64) -> Result<(), String> {
        match self.integers(name)? {
            [found] if found == expected => Ok(()),
            found => Err(unsupported(&format!("the attribute {name}"), found)),
        }
    }

    fn window(&mut self) -> Result<Window, String> {
        let [height, width] = self.integers("kernel_shape")?;
        let [down, right] = self.integers("strides")?;
        let [top, left, bottom, end] = self.integers("pads")?;
        if (top, left) != (bottom, end) {
            return Err(unsupported("the attribute pads", [top, left, bottom, end]));
        }
        let window = Window {
            kernel: (size(height)?, size(width)?),
            stride: (size(down)?, size(right)?),
            padding: (size(top)?, size(left)?),
        };
        let sides = [window.kernel, window.stride, window.padding];
        let is_plausible = |(a, b): (usize, usize)| a.max(b) <= MAX_SIDE;
        match sides.into_iter().all(is_plausible) {
            true => Ok(window),
            false => Err(unsupported("a window", window)),
        }
    }
}

fn read_constant(bytes: &[u8]) -> Result<Constant, String> {
    let mut found = Constant { name: String::new(), shape: Vec::new(), values: Vec::new() };
    for field in Fields::of(bytes) {
        match field? {
            (tensor::DIMS, Value::Integer(side)) => found.shape.push(size(side)?),
            (tensor::NAME, Value::Bytes(text)) => found.name = string(text)?,
            (tensor::RAW_DATA, Value::Bytes(block)) => found.values = floats(block)?,
            (tensor::DATA_TYPE, Value::Integer(FLOAT)) => {}
            (_, other) => return Err(unsupported("a part of a tensor", other)),
        }
    }
    let count = found.shape.iter().try_fold(1usize, |count, side| count.checked_mul(*side));
    match count == Some(found.values.len()) {
        true => Ok(found),
        false => {
            let (name, count) = (&found.name, found.values.len());
            Err(format!("{name} has {count} values, and its shape is {:?}", found.shape))
        }
    }
}

/// The name of an input or output, and its shape without the batch.
fn read_description(bytes: &[u8]) -> Result<(String, Vec<usize>), String> {
    let (mut name, mut sides) = (String::new(), Vec::new());
    for field in Fields::of(bytes) {
        match field? {
            (value::NAME, Value::Bytes(text)) => name = string(text)?,
            (value::TYPE, Value::Bytes(bytes)) => sides = read_sides(bytes)?,
            _ => {}
        }
    }
    match sides.split_first() {
        Some((batch, rest)) if *batch == Side::Named(BATCH.to_owned()) => {
            let number = |side: &Side| match side {
                Side::Number(number) => size(*number),
                Side::Named(name) => Err(unsupported("a dimension", name)),
            };
            Ok((name, rest.iter().map(number).collect::<Result<_, _>>()?))
        }
        _ => Err(unsupported(&format!("the shape of {name}"), sides)),
    }
}

/// A dimension of an input or output.
#[derive(Debug, PartialEq)]
enum Side {
    Named(String),
    Number(i64),
}

/// The message in a field of a `TypeProto` of `f32`, or of the message in it.
fn part_of_type(bytes: &[u8], wanted: u32) -> Result<&[u8], String> {
    let mut found: &[u8] = &[];
    for field in Fields::of(bytes) {
        match field? {
            (field, Value::Bytes(bytes)) if field == wanted => found = bytes,
            (value::ELEM_TYPE, Value::Integer(FLOAT)) => {}
            (_, other) => return Err(unsupported("a part of a type", other)),
        }
    }
    Ok(found)
}

/// The dimensions in a `TypeProto`.
fn read_sides(bytes: &[u8]) -> Result<Vec<Side>, String> {
    let shape = part_of_type(part_of_type(bytes, value::TENSOR_TYPE)?, value::SHAPE)?;
    let mut sides = Vec::new();
    for field in Fields::of(shape) {
        let (value::DIM, Value::Bytes(bytes)) = field? else {
            return Err(unsupported("a part of a shape", shape));
        };
        for field in Fields::of(bytes) {
            sides.push(match field? {
                (value::DIM_PARAM, Value::Bytes(text)) => Side::Named(string(text)?),
                (value::DIM_VALUE, Value::Integer(number)) => Side::Number(number),
                (_, other) => return Err(unsupported("a dimension", other)),
            });
        }
    }
    Ok(sides)
}
