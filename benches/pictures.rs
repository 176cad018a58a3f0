//! Whole pictures on the CPU, normalised tensor to logits: random models of two sizes, and the embedded one.
//!
//! `cargo bench --features threads --bench pictures [-- MODEL…]`, with `RAYON_NUM_THREADS=1` for one core. The precisions of a
//! model run in turns; times are medians. Beside them: how far the logits are from those in `fp32`.

#![allow(clippy::unwrap_used)]

mod timing;

use aim_web::config::Config;
use aim_web::device::Device;
use aim_web::engine::{Engine, HostTensor};
use aim_web::precision::Precision;
use aim_web::weights::LocalModel;
use aim_web::weights::shards::synth::{self, Format};
use pollster::block_on;
use timing::in_turns;

const ROUNDS: usize = 15;

fn config(embed_dim: usize) -> Config {
    Config {
        img_size: [224, 224],
        patch_size: [14, 14],
        num_channels: 3,
        embed_dim,
        num_blocks: 12,
        num_heads: embed_dim / 64,
        num_classes: 1000,
        probe_layers: (6..12).collect(),
        quantization: None,
    }
}

fn picture(config: &Config) -> HostTensor {
    let [height, width] = config.img_size;
    let values = (0..3 * height * width).map(|i| ((i * 7919) % 1009) as f32 / 252.0 - 2.0);
    HostTensor {
        shape: vec![1, 3, height, width],
        values: values.collect(),
    }
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    for dim in [192, 384] {
        let name = format!("D{dim}");
        if is_wanted(&name) {
            let path = folder.path().join(&name);
            synth::write(&config(dim), 1, Format::Safetensors, &path, false).unwrap();
            measure(
                &name,
                &path,
                [Precision::Fp32, Precision::Q8, Precision::Q4],
            );
        }
    }
    if is_wanted("embedded") {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/models/aim-tiny");
        let precisions = [Precision::Fp32, Precision::Auto, Precision::Q4];
        measure("embedded", path.as_ref(), precisions);
    }
}

fn measure(name: &str, path: &std::path::Path, precisions: [Precision; 3]) {
    let models: [Box<dyn Engine>; 3] = precisions.map(|precision| {
        let files = LocalModel::from_dir(path).unwrap();
        block_on(files.load(&Device::Cpu, precision)).unwrap()
    });
    let image = picture(models[0].config());
    let logits = models.each_ref().map(|model| {
        let output = block_on(model.logits_and_features(image.clone(), &[])).unwrap();
        output.logits.values
    });
    let [mut a, mut b, mut c] = models.each_ref().map(|model| {
        || {
            block_on(model.logits_and_features(image.clone(), &[])).unwrap();
        }
    });
    let times = in_turns(ROUNDS, [&mut a, &mut b, &mut c]);
    for ((precision, time), own) in precisions.iter().zip(times).zip(&logits) {
        let error =
            rms(own.iter().zip(&logits[0]).map(|(a, b)| a - b)) / rms(logits[0].iter().copied());
        println!(
            "{name} {precision:5} {:7.2} ms, logits off by {error:.2e} of their norm",
            time * 1e3
        );
    }
}

fn rms(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt()
}
