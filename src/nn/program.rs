//! A graph as the list of ops that run it: batch norms with the addition and the ReLU that follow them in one op, so that
//! memory is walked once. Training and inference plans both start from it. Knows no numbers.

use super::graph::{Graph, Op};
use std::ops::Range;

/// One op to run. Values are named by the node that makes them; of fused nodes by the last.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Instruction {
    /// The node that has the parameters.
    pub node: usize,
    /// The value it makes.
    pub output: usize,
    /// The values it reads; where `residual`, the last one is added.
    pub inputs: Vec<usize>,
    /// Whether another value is added to a batch norm's.
    pub residual: bool,
    /// Whether ReLU follows.
    pub relu: bool,
}

/// The ops of a graph in the order in which they run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Program {
    pub instructions: Vec<Instruction>,
    /// The instructions from here on make the head: they need no value from before but the features.
    pub head: usize,
    /// The instructions from here on make the auxiliary head, which only training from images runs.
    pub auxiliary: usize,
}

impl Program {
    pub fn new(graph: &Graph) -> Program {
        let nodes = graph.nodes();
        let readers = readers(graph);
        // A node that alone reads `value`; features stay visible.
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
            let mut made = Instruction {
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
                    made.inputs.push(a.min(b));
                    (made.residual, made.output) = (true, add);
                    fused[add] = true;
                }
                if let Some(relu) =
                    only_reader(made.output).filter(|&reader| nodes[reader].op == Op::Relu)
                {
                    (made.relu, made.output) = (true, relu);
                    fused[relu] = true;
                }
            }
            instructions.push(made);
        }
        let behind =
            |node: usize| instructions.partition_point(|made: &Instruction| made.node <= node);
        let (head, auxiliary) = (behind(graph.features()), behind(graph.logits()));
        Program { instructions, head, auxiliary }
    }

    /// For each value, how often the instructions of a range read it.
    pub fn uses(&self, range: Range<usize>, values: usize) -> Vec<usize> {
        let mut uses = vec![0; values];
        for instruction in &self.instructions[range] {
            instruction.inputs.iter().for_each(|&input| uses[input] += 1);
        }
        uses
    }
}

/// For each node, those that read it.
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
    fn norms_take_what_follows_them() {
        let graph = backbone("resnet18").unwrap().graph(&Head::Original, (64, 64)).unwrap();
        let program = Program::new(&graph);
        let named = |name: &str| {
            let found =
                program.instructions.iter().find(|made| graph.nodes()[made.node].name == name);
            found.map(|made| (made.residual, made.relu))
        };
        assert_eq!(named("bn1"), Some((false, true)));
        assert_eq!(named("layer1.0.bn2"), Some((true, true)));
        assert_eq!(
            named("layer2.0.bn2"),
            Some((false, false)),
            "the projection's norm runs last and takes the sum"
        );
        assert_eq!(named("layer2.0.downsample.1"), Some((true, true)));
        assert!(named("layer1.0.add").is_none() && named("layer1.0.relu").is_none());
        let head = &program.instructions[program.head];
        assert_eq!(graph.nodes()[head.node].name, "fc");
        // 20 convolutions, 20 norms, max pool, global pool, flatten, fc.
        assert_eq!(program.instructions.len(), 44);
    }
}
