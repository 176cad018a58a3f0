//! Weights and inputs from a seed: the Rust side of `pkg-scripts/goldens/weights.py`.

use aim_web::Result;
use aim_web::config::Config;
use aim_web::weights::checkpoint::Checkpoint;
use aim_web::weights::checkpoint::dtype::Dtype;
use aim_web::weights::checkpoint::tensor_info::TensorInfo;
use aim_web::weights::layout;

/// Nearly normal values of mean 0 and deviation 1: splitmix64, started at FNV-1a-64 of `seed/name`.
pub fn normal(seed: &str, name: &str, count: usize) -> impl Iterator<Item = f64> {
    let mut state = 0xCBF2_9CE4_8422_2325_u64;
    for byte in seed.bytes().chain([b'/']).chain(name.bytes()) {
        state = (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
    }
    let mut uniform = move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = state;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ (x >> 31)) >> 40
    };
    (0..count).map(move |_| {
        let sum = uniform() + uniform() + uniform() + uniform();
        (sum as f64 / 8_388_608.0 - 4.0) * 0.866_025_403_784_438_6
    })
}

/// The values of a tensor, with the mean and deviation that suit its name.
pub fn tensor(seed: &str, name: &str, shape: &[usize]) -> Vec<f32> {
    let fan_in: usize = shape.iter().skip(1).product();
    let deviation = (fan_in as f64).sqrt().recip();
    let (mean, std) = match name {
        _ if name.ends_with("running_mean") => (0.0, 0.5),
        _ if name.ends_with("running_var") => (0.5, 1.0),
        _ if name.ends_with("cls_token") || name == "input" => (0.0, 1.0),
        _ if name.ends_with(".bias") => (0.0, 0.25),
        _ if shape.len() == 1 => (1.0, 0.25),
        _ if name.ends_with("attn.qkv.weight") => (0.0, 1.5 * deviation),
        _ => (0.0, deviation),
    };
    let is_variance = name.ends_with("running_var");
    normal(seed, name, shape.iter().product())
        .map(|z| if is_variance { z.abs() } else { z })
        .map(|z| (mean + std * z) as f32)
        .collect()
}

/// A checkpoint whose every tensor comes from a seed.
pub struct Generated {
    seed: String,
    tensors: Vec<TensorInfo>,
}

impl Generated {
    pub fn new(seed: &str, config: &Config) -> Self {
        let tensors = layout::tensors(config)
            .into_iter()
            .filter(|spec| spec.role != layout::Role::Counter)
            .map(|spec| TensorInfo {
                name: spec.name,
                dtype: Dtype::F32,
                shape: spec.shape,
            })
            .collect();
        Self {
            seed: seed.to_owned(),
            tensors,
        }
    }
}

impl Checkpoint for Generated {
    fn name(&self) -> &str {
        &self.seed
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn read(&mut self, index: usize, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let info = &self.tensors[index];
        for value in tensor(&self.seed, &info.name, &info.shape) {
            sink(&value.to_le_bytes())?;
        }
        Ok(())
    }
}
