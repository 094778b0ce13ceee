//! Every sentence that a machine without the right driver, device or library gets.

use super::*;

pub(super) const SCENARIOS: &[Scenario] = &[
    ("open", open),
    ("open the second", || Card::open(1).map(|_| "opened".to_owned())),
    ("load cuDNN", || Ok(required(Library::Cudnn)?.version.to_string())),
    ("compile", compile),
    ("compile an error", compile_an_error),
    ("look up", look_up),
    ("launch", launch),
    ("launch with two arguments", launch_with_two_arguments),
    ("need bf16", || Card::check(0)?.require_bf16().map(|()| "bf16".to_owned())),
    ("pin", || Card::open(0)?.pinned(1000).map(|_| "pinned".to_owned())),
    ("synchronize", || Card::open(0)?.compute().synchronize().map(|()| "done".to_owned())),
    ("found", || Ok(serde_json::to_string_pretty(&found()).unwrap())),
];

fn open() -> Outcome {
    let card = Card::open(0)?;
    let Properties { name, capability, memory, .. } = card.properties();
    Ok(format!("{name}, {capability}, {memory}"))
}

fn compile() -> Outcome {
    let card = Card::open(0)?;
    Module::load(&card, SOURCE, &NoCache).map(|_| "compiled".to_owned())
}

fn compile_an_error() -> Outcome {
    let card = Card::open(0)?;
    let source = Source { text: "// one\n#error no such thing\n", ..SOURCE };
    Module::load(&card, source, &NoCache).map(|_| "compiled".to_owned())
}

fn look_up() -> Outcome {
    let card = Card::open(0)?;
    let module = Module::load(&card, SOURCE, &NoCache)?;
    module.kernel("subtract").map(|kernel| kernel.name().to_owned())
}

#[expect(unsafe_code, reason = "launches a kernel")]
fn launch() -> Outcome {
    let card = Card::open(0)?;
    let add = Module::load(&card, SOURCE, &NoCache)?.kernel("add")?;
    let numbers = card.zeros::<f32>(1)?;
    let arguments = [Argument::Address(numbers.address()), Argument::F32(1.0), Argument::I32(1)];
    // SAFETY: `add` takes these types, and the buffer has one number.
    unsafe { add.launch(card.compute(), [1, 1, 1], [32, 1, 1], &arguments)? };
    Ok("launched".to_owned())
}

#[expect(unsafe_code, reason = "launches a kernel")]
fn launch_with_two_arguments() -> Outcome {
    let card = Card::open(0)?;
    let add = Module::load(&card, SOURCE, &NoCache)?.kernel("add")?;
    // SAFETY: it isn't launched, since the arguments don't fit.
    unsafe {
        add.launch(
            card.compute(),
            [1, 1, 1],
            [32, 1, 1],
            &[Argument::Address(0), Argument::F32(1.0)],
        )?
    };
    Ok("launched".to_owned())
}

#[test]
fn a_card_opens() {
    Case::new("open").reports("Fake H100, 9.0, 8589934592");
}

#[test]
fn no_driver() {
    Case::new("open").without("libcuda.so.1").reports(
        "error: no NVIDIA driver was found\n\
         help: install the NVIDIA driver (`nvidia-smi` shows whether it works), \
         or use the processor (`--device cpu`)",
    );
}

#[test]
fn the_stand_in_of_the_toolkit_is_no_driver() {
    Case::new("open")
        .set("FAKE_CUDA_FAIL", "cuInit:1:34")
        .reports("error: no NVIDIA driver was found: CUDA driver is a stub library");
}

#[test]
fn old_drivers() {
    Case::new("open").set("FAKE_CUDA_DRIVER_VERSION", 12040).reports(
        "error: the NVIDIA driver supports CUDA 12.4, but pipe needs 12.8\n\
         help: update the NVIDIA driver",
    );
    Case::new("compile").set("FAKE_CUDA_DRIVER_VERSION", 12090).reports(
        "error: the NVIDIA driver supports CUDA 12.9, but NVRTC 13.0 needs 13.0\n\
         help: update the NVIDIA driver, or install an older version of NVRTC 13.0",
    );
}

#[test]
fn an_incomplete_driver() {
    Case::new("open").instead("libcuda.so.1", "libnvrtc.so.13").run().inspect(|report| {
        assert!(report.contains("has no function `cuDriverGetVersion`"), "{report}")
    });
}

#[test]
fn no_device_and_no_such_device() {
    Case::new("open").set("FAKE_CUDA_DEVICES", 0).reports(
        "error: the NVIDIA driver found no GPU\n\
         help: check `nvidia-smi` and the environment variable CUDA_VISIBLE_DEVICES",
    );
    Case::new("open the second").reports(
        "error: there is no GPU 1; there is only 0: Fake H100\n\
         help: use `cuda:0`",
    );
    Case::new("open the second").set("FAKE_CUDA_DEVICES", 2).reports("opened");
}

#[test]
fn missing_libraries() {
    let help = "help: `pip install nvidia-cudnn-cu13 nvidia-cublas nvidia-cuda-nvrtc`, or install";
    for (scenario, file, name, files) in [
        ("compile", "libnvrtc.so.13", "NVRTC", "libnvrtc.so.13, libnvrtc.so.12"),
        ("load cuDNN", "libcublasLt.so.13", "cuBLASLt", "libcublasLt.so.13, libcublasLt.so.12"),
        ("load cuDNN", "libcudnn.so.9", "cuDNN", "libcudnn.so.9"),
    ] {
        let Some(report) = Case::new(scenario).without(file).run() else { return };
        let start = format!(
            "error: {name} ({files}) was not found; \
             looked in the folders of the system's loader, FOLDER"
        );
        assert!(report.starts_with(&start), "{report}");
        assert!(report.contains(&format!("{help} {name} from")), "{report}");
    }
}

#[test]
fn an_old_cudnn() {
    Case::new("load cuDNN").reports("9.21.0");
    let old = Case::new("load cuDNN").instead("libcudnn.so.9", STUB_OF_CUDNN);
    let Some(report) = old.set("FAKE_CUDNN_VERSION", 8907).run() else { return };
    assert!(report.starts_with("error: cuDNN 8.9.7 at "), "{report}");
    assert!(report.contains(" is too old; 9.8.0 or newer is needed\nhelp: `pip install"));
}

#[test]
fn cudnn_for_another_cuda_needs_the_cublas_of_that() {
    let case = Case::new("load cuDNN").instead("libcudnn.so.9", STUB_OF_CUDNN);
    let Some(report) = case.set("FAKE_CUDNN_CUDART", 12090).run() else { return };
    assert!(report.starts_with("error: cuBLASLt (libcublasLt.so.12) was not found"), "{report}");
}

#[test]
fn failures_of_nvrtc() {
    Case::new("compile").reports("compiled");
    Case::new("compile an error").reports(
        "error: failed to compile few.cu for sm_90: NVRTC_ERROR_COMPILATION\n\
         few.cu(2): error: #error directive: no such thing\n\n1 error detected",
    );
    Case::new("compile").without("libnvrtc-builtins.so.13.0").reports(
        "error: failed to compile few.cu for sm_90: NVRTC_ERROR_BUILTIN_OPERATION_FAILURE\n\
         nvrtc: error: failed to open libnvrtc-builtins.so.13.0.",
    );
}

#[test]
fn a_card_newer_than_nvrtc_gets_code_for_an_older_one() {
    Case::new("compile").set("FAKE_CUDA_CAPABILITY", 130).reports("compiled");
    Case::new("compile an error")
        .set("FAKE_CUDA_CAPABILITY", 130)
        .reports("error: failed to compile few.cu for compute_120: NVRTC_ERROR_COMPILATION");
}

#[test]
fn kernels_that_are_unknown_or_fail() {
    Case::new("look up").reports("error: few.cu has no kernel `subtract`");
    Case::new("launch").reports("launched");
    Case::new("launch").set("FAKE_CUDA_FAIL", "cuLaunchKernel:1:719").reports(
        "error: the GPU failed while launching the kernel `add` in [1, 1, 1] x [32, 1, 1]: \
         CUDA error 719 (CUDA_ERROR_LAUNCH_FAILED): unspecified launch failure",
    );
    Case::new("launch with two arguments")
        .reports("error: kernel `add` takes arguments of [8, 4, 4] bytes, but got [8, 4]");
}

#[test]
fn a_card_without_bf16() {
    Case::new("need bf16").set("FAKE_CUDA_CAPABILITY", 80).reports("bf16");
    let old = Case::new("need bf16").set("FAKE_CUDA_CAPABILITY", 75);
    old.set("FAKE_CUDA_NAME", "Tesla T4").reports(
        "error: Tesla T4 (compute capability 7.5) does not compute in bf16, \
         which needs 8.0 or newer\n\
         help: use `precision = \"f32\"`",
    );
}

#[test]
fn other_errors_of_the_driver() {
    Case::new("pin").reports("pinned");
    Case::new("pin")
        .set("FAKE_CUDA_FAIL", "cuMemHostAlloc:1:2")
        .reports("error: failed to allocate 1,000 bytes of pinned host memory");
    Case::new("synchronize").set("FAKE_CUDA_FAIL", "cuStreamSynchronize:1:700").reports(
        "error: the GPU failed while waiting for a stream: CUDA error 700 \
         (CUDA_ERROR_ILLEGAL_ADDRESS): an illegal memory access was encountered",
    );
    Case::new("synchronize").set("FAKE_CUDA_FAIL", "cuStreamCreate:2:999").reports(
        "error: creating a stream failed: CUDA error 999 (CUDA_ERROR_UNKNOWN): unknown error",
    );
}

#[test]
fn everything_found_is_described() {
    let Some(report) = Case::new("found").without("libcudnn.so.9").run() else { return };
    let found: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(found["driver"]["version"], "13.0", "{report}");
    assert!(found["driver"]["path"].as_str().unwrap().ends_with("/libcuda.so.1"), "{report}");
    assert_eq!(found["nvrtc"]["version"], "13.0", "{report}");
    assert_eq!(found["cublas_lt"]["version"], "13.1.0", "{report}");
    assert!(found["cudnn"]["problem"].as_str().unwrap().contains("was not found"), "{report}");
    assert_eq!(found["devices"][0]["name"], "Fake H100", "{report}");
    assert_eq!(found["devices"][0]["memory_free"], 8_589_934_592_u64, "{report}");
    assert_eq!(found["problem"], serde_json::Value::Null, "{report}");
}
