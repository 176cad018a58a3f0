//! A model so small that thousands are read in a second, in files of every kind.

use std::collections::BTreeMap;

use aim_web::config::Config;
use aim_web::weights::checkpoint::dtype::{Decoder, Dtype};
use aim_web::weights::checkpoint::safetensors::write_header;
use aim_web::weights::checkpoint::tensor_info::TensorInfo;
use aim_web::weights::checkpoint::torch::write::{Entry, TorchWriter};
use aim_web::weights::layout::{self, Role, TensorSpec};

/// The values of tensors, by their names.
pub type Values = BTreeMap<String, Vec<f32>>;

/// The configuration of `tests/bad` and `tests/torch`.
pub fn config() -> Config {
    Config {
        img_size: [4, 4],
        patch_size: [2, 2],
        num_channels: 3,
        embed_dim: 4,
        num_blocks: 1,
        num_heads: 1,
        num_classes: 10,
        probe_layers: vec![0],
        quantization: None,
    }
}

/// The same with two blocks, of which the probe reads the first.
pub fn config_of_two_blocks() -> Config {
    Config {
        num_blocks: 2,
        ..config()
    }
}

/// A tensor as it lies in a file.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// What the file says of it.
    pub info: TensorInfo,
    /// Its elements, row-major and little-endian.
    pub bytes: Vec<u8>,
}

impl Tensor {
    /// A tensor of a model, with values that any type of float holds exactly.
    pub fn new(spec: &TensorSpec, dtype: Dtype, seed: u64) -> Self {
        let dtype = if spec.role == Role::Counter {
            Dtype::I64
        } else {
            dtype
        };
        let info = TensorInfo {
            name: spec.name.clone(),
            dtype,
            shape: spec.shape.clone(),
        };
        let mut state = spec.name.bytes().fold(seed | 1, |state, byte| {
            (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let mut bytes = Vec::new();
        for _ in 0..info.numel() {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            push(&mut bytes, dtype, (state >> 56) as u8);
        }
        Self { info, bytes }
    }

    /// The same values in another type.
    #[must_use]
    pub fn cast(&self, dtype: Dtype) -> Self {
        let mut bytes = Vec::new();
        for value in self.values() {
            push(&mut bytes, dtype, (value * 64.0) as u8);
        }
        let info = TensorInfo {
            dtype,
            ..self.info.clone()
        };
        Self { info, bytes }
    }

    /// Its values; none if they are no floats.
    pub fn values(&self) -> Vec<f32> {
        let mut values = Vec::new();
        if let Ok(mut decoder) = Decoder::new(self.info.dtype) {
            // Those that are not finite are another's affair.
            let _ = decoder.push(&self.bytes, &mut values);
        }
        values
    }
}

/// Adds the element `byte / 64`.
fn push(bytes: &mut Vec<u8>, dtype: Dtype, byte: u8) {
    let value = f32::from(byte) / 64.0;
    match dtype {
        Dtype::F32 => bytes.extend(value.to_le_bytes()),
        Dtype::F64 => bytes.extend(f64::from(value).to_le_bytes()),
        // Eight bits of fraction are more than it needs.
        Dtype::Bf16 => bytes.extend(&value.to_le_bytes()[2..]),
        Dtype::F16 => bytes.extend(half(value).to_le_bytes()),
        _ => {
            let start = bytes.len();
            bytes.resize(start + usize::from(dtype.bits().div_ceil(8)), 0);
            bytes[start] = byte;
        }
    }
}

/// A positive number of few bits as f16.
const fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    if bits == 0 {
        return 0;
    }
    // The exponents' biases differ by 112; 13 bits of fraction are zeros.
    ((bits >> 13) - (112 << 10)) as u16
}

/// All tensors of a model.
pub fn tensors(config: &Config, dtype: Dtype, seed: u64) -> Vec<Tensor> {
    layout::tensors(config)
        .iter()
        .map(|spec| Tensor::new(spec, dtype, seed))
        .collect()
}

/// The values of float tensors.
pub fn values(tensors: &[Tensor]) -> Values {
    tensors
        .iter()
        .map(|tensor| (tensor.info.name.clone(), tensor.values()))
        .collect()
}

/// The bytes of a safetensors file.
pub fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let infos: Vec<TensorInfo> = tensors.iter().map(|tensor| tensor.info.clone()).collect();
    let (mut bytes, _) = write_header(&infos, &[("format", "pt")]).expect("it is small");
    for tensor in tensors {
        bytes.extend(&tensor.bytes);
    }
    bytes
}

/// The bytes of what `torch.save` would write; `None` for a type that torch has no storage of.
pub fn torch(tensors: &[Tensor]) -> Option<Vec<u8>> {
    let entries: Vec<Entry<'_>> = tensors
        .iter()
        .map(|tensor| Entry {
            name: &tensor.info.name,
            dtype: tensor.info.dtype,
            shape: &tensor.info.shape,
        })
        .collect();
    let mut bytes = Vec::new();
    let mut writer = TorchWriter::new(&mut bytes, "model", &entries).ok()?;
    for tensor in tensors {
        writer.storage(|file| file.write_all(&tensor.bytes)).ok()?;
    }
    writer.finish().ok()?;
    Some(bytes)
}

/// The text of an index.
pub fn index<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let entries: Vec<String> = files
        .map(|(tensor, file)| format!("{tensor:?}:{file:?}"))
        .collect();
    format!("{{\"weight_map\":{{{}}}}}", entries.join(","))
}
