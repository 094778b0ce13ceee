//! A convolution as an operation graph of cuDNN: three tensors and one operation. Doesn't choose
//! an engine.

use super::descriptor::Descriptor;
use super::{ConvolutionError, Cudnn, Direction, Element, Map, Problem, Target};
use cudarc::cudnn::sys;
use sys::cudnnBackendAttributeName_t as Attribute;
use sys::cudnnBackendDescriptorType_t as Kind;

/// The numbers by which the variant pack names the tensors.
pub(super) const X: i64 = 1;
pub(super) const W: i64 = 2;
pub(super) const Y: i64 = 3;

/// Alignment of whole tensors in bytes, the most that engines ask for.
const ALIGNMENT: usize = 16;

/// The attributes of an operation, which differ by direction.
struct Names {
    kind: Kind,
    convolution: Attribute,
    x: Attribute,
    w: Attribute,
    y: Attribute,
    alpha: Attribute,
    beta: Attribute,
}

impl Names {
    fn of(direction: Direction) -> Names {
        use Attribute as A;
        match direction {
            Direction::Forward => Names {
                kind: Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                convolution: A::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                x: A::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                w: A::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                y: A::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                alpha: A::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                beta: A::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
            },
            Direction::ByInput => Names {
                kind: Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                convolution: A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                x: A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                w: A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                y: A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                alpha: A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                beta: A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,
            },
            Direction::ByWeights => Names {
                kind: Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                convolution: A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                x: A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                w: A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                y: A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                alpha: A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                beta: A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
            },
        }
    }
}

/// An operation graph with what it was made of.
pub(super) struct Graph {
    pub(super) graph: Descriptor,
    /// Kept until the graph is dropped: cuDNN doesn't document whether it copies them.
    _parts: Vec<Descriptor>,
}

/// The operation graph of a problem, whose shape was checked.
pub(super) fn graph(problem: &Problem, target: Target) -> Result<Graph, ConvolutionError> {
    let cudnn = target.cudnn();
    let [x, w, y] = tensors(cudnn, problem)?;
    let convolution = convolution(cudnn, problem)?;
    let names = Names::of(problem.direction);
    let operation = Descriptor::new(cudnn, names.kind, "the operation")?
        .descriptor(names.convolution, &convolution)?
        .descriptor(names.x, &x)?
        .descriptor(names.w, &w)?
        .descriptor(names.y, &y)?
        .float(names.alpha, 1.0)?
        .float(names.beta, if problem.accumulate { 1.0 } else { 0.0 })?
        .finalize()?;
    let graph = Descriptor::new(
        cudnn,
        Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR,
        "the operation graph",
    )?
    .descriptor(Attribute::CUDNN_ATTR_OPERATIONGRAPH_OPS, &operation)?;
    let graph =
        target.set_handle(graph, Attribute::CUDNN_ATTR_OPERATIONGRAPH_HANDLE)?.finalize()?;
    Ok(Graph { graph, _parts: vec![operation, convolution, x, w, y] })
}

fn tensors(cudnn: Cudnn, problem: &Problem) -> Result<[Descriptor; 3], ConvolutionError> {
    let (shape, element) = (&problem.shape, problem.precision.element());
    let weights = Map::new(shape.kernel.0, shape.kernel.1, shape.input.channels);
    Ok([
        tensor(cudnn, "the input's map", X, shape.batch, &shape.input, element)?,
        tensor(cudnn, "the weights", W, shape.output.channels, &weights, element)?,
        tensor(cudnn, "the output's map", Y, shape.batch, &shape.output, element)?,
    ])
}

/// A tensor of `count` maps. cuDNN's order of dimensions is N, C, H, W whatever the strides.
fn tensor(
    cudnn: Cudnn,
    what: &'static str,
    number: i64,
    count: usize,
    map: &Map,
    element: Element,
) -> Result<Descriptor, ConvolutionError> {
    let row = map.width * map.row_stride;
    let dimensions = [count, map.channels, map.height, map.width].map(int);
    let strides = [map.height * row, 1, row, map.row_stride].map(int);
    let data_type = match element {
        Element::F32 => sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
        Element::Bf16 => sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
    };
    Descriptor::new(cudnn, Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR, what)?
        .data_type(Attribute::CUDNN_ATTR_TENSOR_DATA_TYPE, data_type)?
        .ints(Attribute::CUDNN_ATTR_TENSOR_DIMENSIONS, &dimensions)?
        .ints(Attribute::CUDNN_ATTR_TENSOR_STRIDES, &strides)?
        .ints(Attribute::CUDNN_ATTR_TENSOR_UNIQUE_ID, &[number])?
        .ints(Attribute::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, &[int(alignment(map, element))])?
        .finalize()
}

/// The alignment in bytes of a map's first element, where the wider map is aligned to 16 bytes.
pub(super) fn alignment(map: &Map, element: Element) -> usize {
    let offset = map.offset * element.size();
    // The lowest set bit: the largest power of two that divides the offset.
    if offset == 0 { ALIGNMENT } else { ALIGNMENT.min(offset & offset.wrapping_neg()) }
}

fn convolution(cudnn: Cudnn, problem: &Problem) -> Result<Descriptor, ConvolutionError> {
    let shape = &problem.shape;
    let pair = |(a, b): (usize, usize)| [int(a), int(b)];
    let padding = pair(shape.padding);
    let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
    let float = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;
    Descriptor::new(cudnn, Kind::CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, "the convolution")?
        .data_type(Attribute::CUDNN_ATTR_CONVOLUTION_COMP_TYPE, float)?
        .convolution_mode(Attribute::CUDNN_ATTR_CONVOLUTION_CONV_MODE, mode)?
        .ints(Attribute::CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, &[2])?
        .ints(Attribute::CUDNN_ATTR_CONVOLUTION_DILATIONS, &[1, 1])?
        .ints(Attribute::CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, &pair(shape.stride))?
        .ints(Attribute::CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, &padding)?
        .ints(Attribute::CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, &padding)?
        .finalize()
}

/// A size for cuDNN. Shapes are checked to fit; anything else would be refused by cuDNN.
fn int(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alignment_follows_the_offset() {
        let map = Map::new(2, 2, 16);
        let aligned = |offset, element| alignment(&map.within(64, offset), element);
        assert_eq!(aligned(0, Element::Bf16), 16);
        assert_eq!(aligned(8, Element::Bf16), 16);
        assert_eq!(aligned(4, Element::Bf16), 8);
        assert_eq!(aligned(5, Element::Bf16), 2);
        assert_eq!(aligned(4, Element::F32), 16);
        assert_eq!(aligned(6, Element::F32), 8);
    }
}
