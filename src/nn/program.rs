//! A graph as a list of instructions: batch norms are fused with the addition and the ReLU that
//! follow them, so that memory is traversed once. Both the interpreter and compiled networks start
//! from it.

use super::graph::{Graph, Op};
use std::ops::Range;

/// One instruction. A value is identified by the node that outputs it, for fused nodes by the last
/// one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Instruction {
    /// The node with the parameters.
    pub node: usize,
    pub output: usize,
    /// The values it reads; with `residual`, the last one is the residual.
    pub inputs: Vec<usize>,
    /// Whether a residual is added to the batch norm's output.
    pub residual: bool,
    /// Whether a ReLU is applied last.
    pub relu: bool,
}

/// The instructions of a graph in execution order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Program {
    pub instructions: Vec<Instruction>,
    /// Index of the head's first instruction. The head reads no earlier value but the features.
    pub head: usize,
    /// Index of the auxiliary head's first instruction. Only training from images runs it.
    pub auxiliary: usize,
}

impl Program {
    pub(super) fn new(graph: &Graph) -> Program {
        let nodes = graph.nodes();
        let readers = readers(graph);
        // The only reader of `value`, if it is the only one. Features and logits stay unfused.
        let only_reader = |value: usize| match readers[value][..] {
            [reader] if value != graph.features() && value != graph.logits() => Some(reader),
            _ => None,
        };
        let mut fused = vec![false; nodes.len()];
        let mut instructions = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            if fused[index] || node.op == Op::Input {
                continue;
            }
            let mut instruction = Instruction {
                node: index,
                output: index,
                inputs: node.inputs.clone(),
                residual: false,
                relu: false,
            };
            if matches!(node.op, Op::BatchNorm { .. }) {
                if let Some(add) = only_reader(index).filter(|&reader| nodes[reader].op == Op::Add)
                    && let [a, b] = nodes[add].inputs[..]
                    && a.max(b) == index
                {
                    instruction.inputs.push(a.min(b));
                    (instruction.residual, instruction.output) = (true, add);
                    fused[add] = true;
                }
                if let Some(relu) =
                    only_reader(instruction.output).filter(|&reader| nodes[reader].op == Op::Relu)
                {
                    (instruction.relu, instruction.output) = (true, relu);
                    fused[relu] = true;
                }
            }
            instructions.push(instruction);
        }
        let behind = |node: usize| {
            instructions.partition_point(|instruction: &Instruction| instruction.node <= node)
        };
        let (head, auxiliary) = (behind(graph.features()), behind(graph.logits()));
        Program { instructions, head, auxiliary }
    }

    /// For each value, the number of reads by a range of instructions.
    pub(super) fn uses(&self, range: Range<usize>, values: usize) -> Vec<usize> {
        let mut uses = vec![0; values];
        for instruction in &self.instructions[range] {
            instruction.inputs.iter().for_each(|&input| uses[input] += 1);
        }
        uses
    }
}

/// For each node, the nodes that read it.
fn readers(graph: &Graph) -> Vec<Vec<usize>> {
    let mut readers = vec![Vec::new(); graph.nodes().len()];
    for (index, node) in graph.nodes().iter().enumerate() {
        node.inputs.iter().for_each(|&input| readers[input].push(index));
    }
    readers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Head, backbone};

    #[test]
    fn norms_are_fused_with_the_addition_and_the_relu_that_follow() {
        let graph = backbone("resnet18").unwrap().graph(&Head::Original, (64, 64)).unwrap();
        let program = Program::new(&graph);
        let named = |name: &str| {
            let found = program
                .instructions
                .iter()
                .find(|instruction| graph.nodes()[instruction.node].name == name);
            found.map(|instruction| (instruction.residual, instruction.relu))
        };
        assert_eq!(named("bn1"), Some((false, true)));
        assert_eq!(named("layer1.0.bn2"), Some((true, true)));
        assert_eq!(
            named("layer2.0.bn2"),
            Some((false, false)),
            "the projection's norm runs last and is fused with the sum"
        );
        assert_eq!(named("layer2.0.downsample.1"), Some((true, true)));
        assert!(named("layer1.0.add").is_none() && named("layer1.0.relu").is_none());
        let head = &program.instructions[program.head];
        assert_eq!(graph.nodes()[head.node].name, "fc");
        // 20 convolutions, 20 norms, max pool, global pool, flatten, fc.
        assert_eq!(program.instructions.len(), 44);
    }
}
