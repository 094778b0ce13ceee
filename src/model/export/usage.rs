//! How an exported model is used: its preprocessing in words, and code for PyTorch, timm and ONNX
//! Runtime. `tests/onnx.py` runs the code.

use super::{ONNX, OnnxInput, SAFETENSORS};
use crate::data::{Fit, Interpolation, Preprocessing};
use crate::model::{Classifier, Dense, ModelInfo};
use crate::nn;

/// The input of an ONNX model in words: "`f32` (batch, 3, 224, 224): RGB, …".
pub(super) fn in_words(preprocessing: &Preprocessing, input: OnnxInput) -> String {
    let side = preprocessing.crop;
    let values = match input {
        OnnxInput::Normalized => {
            format!("0 to 255 divided by 255, then {}", normalization(preprocessing))
        }
        OnnxInput::Pixels => "0 to 255".to_owned(),
    };
    format!("f32 (batch, 3, {side}, {side}): {}; values of {values}", geometry(preprocessing))
}

/// The whole preprocessing in words.
pub(super) fn preprocessing_in_words(preprocessing: &Preprocessing) -> String {
    format!(
        "{}; values of 0 to 255 are divided by 255, then {}",
        geometry(preprocessing),
        normalization(preprocessing)
    )
}

fn geometry(preprocessing: &Preprocessing) -> String {
    let Preprocessing { resize, crop, fit, interpolation, .. } = *preprocessing;
    let filter = match interpolation {
        Interpolation::Bilinear => "bilinear",
        Interpolation::Bicubic => "bicubic",
    };
    let resized = match fit {
        Fit::Crop => format!("the shorter side resized to {resize} pixels"),
        Fit::Pad => format!(
            "the longer side resized to {resize} pixels and the rest of the square filled with the mean color"
        ),
        Fit::Stretch => format!("resized to {resize} x {resize} pixels"),
    };
    format!(
        "RGB, {resized} ({filter}, antialiased), of which the center of {crop} x {crop} pixels is kept"
    )
}

fn normalization(Preprocessing { mean, std, .. }: &Preprocessing) -> String {
    let [mean, std] = [mean, std].map(|three| three.map(|one| one.to_string()).join(", "));
    format!("({mean}) is subtracted from red, green and blue, and they are divided by ({std})")
}

/// The transforms of torchvision, as an expression of lines; none where it has no such transform.
pub(super) fn transforms(preprocessing: &Preprocessing) -> Option<String> {
    let Preprocessing { resize, crop, fit, interpolation, mean, std, .. } = preprocessing;
    let size = match fit {
        Fit::Crop => resize.to_string(),
        Fit::Stretch => format!("({resize}, {resize})"),
        Fit::Pad => return None,
    };
    let filter = match interpolation {
        Interpolation::Bilinear => "BILINEAR",
        Interpolation::Bicubic => "BICUBIC",
    };
    Some(format!(
        "from torchvision import transforms as T\n\
         transform = T.Compose([\n    \
             T.Resize({size}, T.InterpolationMode.{filter}),\n    \
             T.CenterCrop({crop}),\n    \
             T.ToTensor(),\n    \
             T.Normalize({mean:?}, {std:?}),\n\
         ])\n"
    ))
}

/// Python that loads the weights into torchvision's network, with every name and shape checked.
pub(super) fn pytorch(info: &ModelInfo) -> String {
    let (backbone, classes) = (&info.backbone, info.classes.len());
    let hidden = match &info.head {
        Classifier::Dense(dense) if !dense.hidden.is_empty() => Some(dense),
        Classifier::Dense(_) | Classifier::Original(_) => None,
    };
    let has_auxiliary = nn::backbone(backbone).is_some_and(nn::BackboneInfo::has_auxiliary);
    let mut options = Vec::new();
    options.extend(hidden.is_none().then(|| format!("num_classes={classes}")));
    options.extend(has_auxiliary.then(|| "aux_logits=False, init_weights=False".to_owned()));
    let head = hidden.map_or_else(String::new, |dense| {
        format!("model.{} = {}\n", classifier(backbone), sequential(dense, backbone, classes))
    });
    let torch = if hidden.is_some() { "torch, " } else { "" };
    format!(
        "import safetensors.torch, {torch}torchvision\n\
         model = torchvision.models.{backbone}({}).eval()\n\
         {head}\
         model.load_state_dict(safetensors.torch.load_file(\"{SAFETENSORS}\"), strict=True)\n",
        options.join(", ")
    )
}

/// torchvision's attribute with the classifier: `fc`, `classifier[6]`.
fn classifier(backbone: &str) -> String {
    let names = nn::backbone(backbone).map(nn::classifier).unwrap_or_default();
    let name = names.first().and_then(|name| name.strip_suffix(".weight")).unwrap_or("fc");
    let part = |part: &str| match part.parse::<usize>() {
        Ok(index) => format!("[{index}]"),
        Err(_) => format!(".{part}"),
    };
    name.split('.').map(part).collect::<String>().trim_start_matches('.').to_owned()
}

fn sequential(Dense { hidden, dropout }: &Dense, backbone: &str, classes: usize) -> String {
    let mut width = nn::backbone(backbone).map_or(0, |info| info.features);
    let mut layers = Vec::new();
    for &next in hidden {
        layers.push(format!(
            "torch.nn.Linear({width}, {next}), torch.nn.ReLU(), torch.nn.Dropout({dropout})"
        ));
        width = next;
    }
    layers.push(format!("torch.nn.Linear({width}, {classes})"));
    format!("torch.nn.Sequential({}).eval()", layers.join(", "))
}

/// Python that loads the folder with timm.
pub(super) fn timm() -> String {
    "import timm\nmodel = timm.create_model(\"local-dir:.\", pretrained=True).eval()\n".to_owned()
}

/// Python that runs the ONNX model.
pub(super) fn onnx_runtime() -> String {
    format!(
        "import onnxruntime\n\
         session = onnxruntime.InferenceSession(\"{ONNX}\")\n\
         logits, probabilities = session.run(None, {{\"images\": images}})\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::info;

    #[test]
    fn the_code_fits_the_head_and_the_network() {
        let mut info = info();
        let mut all = String::new();
        for (backbone, hidden) in [
            ("resnet18", vec![]),
            ("resnet50", vec![64, 32]),
            ("alexnet", vec![4]),
            ("inception_v3", vec![]),
        ] {
            info.backbone = backbone.to_owned();
            info.head = Classifier::Dense(Dense { hidden, dropout: 0.5 });
            all += &format!("# {backbone}\n{}", pytorch(&info));
        }
        insta::assert_snapshot!(all);
    }

    #[test]
    fn the_preprocessing_is_described() {
        let mut preprocessing = info().preprocessing;
        let mut all = String::new();
        for fit in [Fit::Crop, Fit::Pad, Fit::Stretch] {
            preprocessing.fit = fit;
            let transforms = transforms(&preprocessing).unwrap_or_else(|| "none\n".to_owned());
            all += &format!("{}\n{transforms}", preprocessing_in_words(&preprocessing));
        }
        all += &in_words(&preprocessing, OnnxInput::Pixels);
        insta::assert_snapshot!(all);
    }
}
