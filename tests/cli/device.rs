//! `pipe device`.

use crate::support::{Desk, Ran};

/// Without the CUDA libraries of Python environments and of the machine's folders.
fn device(desk: &Desk, arguments: &[&str]) -> Ran {
    let mut command = desk.command(&[&["device"], arguments].concat());
    command.env("PATH", "").env("PIPE_CUDA_LIBRARIES", desk.path(""));
    for variable in ["CUDA_PATH", "CONDA_PREFIX", "VIRTUAL_ENV"] {
        command.env_remove(variable);
    }
    desk.output(command)
}

#[test]
fn device_shows_the_processor_and_what_of_cuda_is_found() {
    let desk = Desk::empty();
    let ran = device(&desk, &[]);
    assert_eq!(ran.code, 0, "{ran}");
    for name in ["processor", "NVIDIA driver", "NVRTC", "cuBLASLt", "cuDNN"] {
        assert!(ran.stdout.contains(name), "{ran}");
    }
    let json = device(&desk, &["--json"]).json();
    assert!(json["processor"]["cores"].as_u64().unwrap() > 0, "{json}");
    // Machines differ in what they have: the text says what the JSON does.
    let devices = json["cuda"]["devices"].as_array().unwrap();
    match json["cuda"]["driver"]["problem"].as_str() {
        Some(problem) => {
            assert!(ran.stderr.contains(problem) && ran.stdout.contains("not found"), "{ran}");
            assert!(devices.is_empty(), "{json}");
        }
        None => assert!(ran.stdout.contains("cuda:0"), "{ran}"),
    }
}
