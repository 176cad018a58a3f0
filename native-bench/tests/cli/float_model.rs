//! The embedded model in floats, as it was before it was quantised.

#[path = "../../../tests/common/numbers.rs"]
mod numbers;

use std::path::Path;

use aim_web::config::Config;
use aim_web::quant::{QuantMatrix, dequantize};
use numbers::{halves, words};
use safetensors::tensor::{Dtype, TensorView};

/// Writes `config.json`, `labels.json` and `model.safetensors` in f32 to a folder.
pub fn write(folder: &Path) {
    let tiny = super::test_file("../models/aim-tiny");
    let text = std::fs::read_to_string(tiny.join("config.json")).unwrap();
    let mut config = Config::from_json(&text).unwrap();
    let scheme = config.quantization.take().expect("it is quantised");
    let shard = std::fs::read(tiny.join("model-00001-of-00001.safetensors")).unwrap();
    let shard = safetensors::SafeTensors::deserialize(&shard).unwrap();

    let mut tensors = Vec::new();
    for (name, tensor) in shard.tensors() {
        match (tensor.dtype(), name.strip_suffix(".weight")) {
            (Dtype::U32, Some(matrix)) => {
                let part = |part: &str| shard.tensor(&format!("{matrix}.{part}")).unwrap();
                let (scales, biases) = (part("scales"), part("biases"));
                let shape = vec![scales.shape()[0], scales.shape()[1] * scheme.group_size()];
                let matrix = QuantMatrix::new(
                    shape[0],
                    shape[1],
                    scheme,
                    words(tensor.data()),
                    halves(scales.data()),
                    halves(biases.data()),
                );
                let values = dequantize::matrix(&matrix.unwrap()).unwrap();
                let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                tensors.push((name, shape, bytes));
            }
            (Dtype::F32, _) => {
                tensors.push((name, tensor.shape().to_vec(), tensor.data().to_vec()));
            }
            _ => {}
        }
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name, view)
    });
    std::fs::create_dir_all(folder).unwrap();
    let file = folder.join("model.safetensors");
    safetensors::serialize_to_file(views, None, &file).unwrap();
    std::fs::write(folder.join("config.json"), config.to_json()).unwrap();
    std::fs::copy(tiny.join("labels.json"), folder.join("labels.json")).unwrap();
}
