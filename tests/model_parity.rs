//! The model against the outputs of Apple's reference, on the CPU and through wgpu.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod common;

use aim_web::config::Config;
use aim_web::device::Device;
use aim_web::engine::{self, Engine, HostTensor};
use aim_web::precision::Precision;
use aim_web::weights::checkpoint::Checkpoint;
use common::generator::{self, Generated};
use common::goldens::{self, relative_error};
use pollster::block_on;

/// `max |ours - reference| / max |reference|`; the reference's own f32 noise is 4e-7.
const CPU_TOLERANCE: f32 = 1e-5;
const GPU_TOLERANCE: f32 = 1e-4;

struct Case {
    name: &'static str,
    weights_seed: &'static str,
    input_seed: &'static str,
    embed_dim: usize,
    num_blocks: usize,
    probe_layers: &'static [usize],
    input: [usize; 4],
}

const A: Case = Case {
    name: "a_tiny_best",
    weights_seed: "a",
    input_seed: "a.in",
    embed_dim: 128,
    num_blocks: 4,
    probe_layers: &[1, 2],
    input: [1, 3, 224, 224],
};

/// From the reference itself (`a_`, `c_`) and from `pkg-scripts/goldens/make.py`.
const CASES: &[Case] = &[
    A,
    Case {
        name: "c_batch3",
        input_seed: "c.in",
        input: [3, 3, 224, 224],
        ..A
    },
    Case {
        name: "b_heads_of_128",
        weights_seed: "b",
        input_seed: "b_heads_of_128.in",
        embed_dim: 256,
        num_blocks: 2,
        probe_layers: &[0, 1],
        ..A
    },
    Case {
        name: "d_wide",
        input_seed: "d_wide.in",
        input: [1, 3, 140, 196],
        ..A
    },
    Case {
        name: "e_remainder",
        input_seed: "e_remainder.in",
        input: [2, 3, 203, 231],
        ..A
    },
    Case {
        name: "g_probed_twice",
        input_seed: "g_probed_twice.in",
        probe_layers: &[3, 0, 3],
        input: [1, 3, 112, 112],
        ..A
    },
];

impl Case {
    fn config(&self) -> Config {
        Config {
            img_size: [224, 224],
            patch_size: [14, 14],
            num_channels: 3,
            embed_dim: self.embed_dim,
            num_blocks: self.num_blocks,
            num_heads: 2,
            num_classes: 1000,
            probe_layers: self.probe_layers.to_vec(),
            quantization: None,
        }
    }

    fn model(&self, device: &Device) -> Box<dyn Engine> {
        self.model_with_blocks(self.num_blocks, device)
    }

    fn model_with_blocks(&self, blocks: usize, device: &Device) -> Box<dyn Engine> {
        let config = self.config();
        let weights: Box<dyn Checkpoint> = Box::new(Generated::new(self.weights_seed, &config));
        engine::load(&mut [weights], config, blocks, Precision::Fp32, device)
            .expect("the generated weights load")
    }

    fn images(&self) -> HostTensor {
        HostTensor {
            shape: self.input.to_vec(),
            values: generator::tensor(self.input_seed, "input", &self.input),
        }
    }
}

fn logits(model: &dyn Engine, images: HostTensor) -> Vec<f32> {
    let output = block_on(model.logits_and_features(images, &[])).expect("the input fits");
    output.logits.values
}

fn matches_the_reference(device: &Device, tolerance: f32) {
    for case in CASES {
        let layers: Vec<usize> = (0..case.num_blocks).collect();
        let model = case.model(device);
        let output =
            block_on(model.logits_and_features(case.images(), &layers)).expect("the input fits");

        let golden = goldens::read(case.name, "logits").expect("every case has logits");
        let logits = output.logits.values;
        let error = golden.error(&logits);
        println!("{} logits {error:.1e}", case.name);
        assert!(
            error <= tolerance,
            "{} logits are off by {error:e}",
            case.name
        );
        assert_eq!(
            goldens::top_5(&logits, 1000),
            golden.top_5(1000),
            "{}",
            case.name
        );

        for (layer, feature) in layers.into_iter().zip(output.features) {
            let golden = goldens::read(case.name, &format!("features.{layer}"))
                .expect("every case has the features of every block");
            let error = golden.error(&feature.values);
            println!("{} block {layer} {error:.1e}", case.name);
            assert!(
                error <= tolerance,
                "{} block {layer} is off by {error:e}",
                case.name
            );
        }
    }
}

fn causal_features_match_the_reference(device: &Device, tolerance: f32) {
    let case = Case {
        name: "h_prefix",
        input_seed: "h_prefix.in",
        input: [1, 3, 98, 98],
        ..A
    };
    let model = case.model(device);
    let features =
        block_on(model.causal_features(case.images(), &[0, 1, 2, 3], 11)).expect("the input fits");
    for (layer, feature) in features.into_iter().enumerate() {
        let golden = goldens::read(case.name, &format!("features.{layer}")).expect("in the file");
        let error = golden.error(&feature.values);
        println!("{} block {layer} {error:.1e}", case.name);
        assert!(error <= tolerance, "block {layer} is off by {error:e}");
    }
}

mod cpu {
    use super::*;

    #[test]
    fn cpu_matches_the_reference() {
        matches_the_reference(&Device::Cpu, CPU_TOLERANCE);
    }

    #[test]
    fn cpu_causal_features_match_the_reference() {
        causal_features_match_the_reference(&Device::Cpu, CPU_TOLERANCE);
    }

    #[test]
    fn a_batch_gives_what_its_pictures_give_one_by_one() {
        let case = &CASES[1];
        let model = case.model(&Device::Cpu);
        let images = case.images();
        let together = logits(&*model, images.clone());
        let largest = together.iter().fold(0.0_f32, |l, v| l.max(v.abs()));
        let size = images.values.len() / 3;
        for (i, batched) in together.chunks_exact(1000).enumerate() {
            let alone = HostTensor {
                shape: vec![1, 3, 224, 224],
                values: images.values[i * size..(i + 1) * size].to_vec(),
            };
            let error = relative_error(&logits(&*model, alone), batched, largest);
            assert!(error <= 1e-6, "picture {i} is off by {error:e}");
        }
    }

    #[test]
    fn stopping_at_the_highest_probed_block_changes_nothing() {
        let full = A.model(&Device::Cpu);
        let stopped = A.model_with_blocks(3, &Device::Cpu);
        assert_eq!((full.blocks(), stopped.blocks()), (4, 3));
        assert_eq!(logits(&*full, A.images()), logits(&*stopped, A.images()));
    }

    #[test]
    fn features_come_in_the_order_asked_for() {
        let model = A.model(&Device::Cpu);
        let features = |layers: &[usize]| {
            block_on(model.features(A.images(), layers)).expect("the input fits")
        };
        let picked = features(&[2, 0, 2]);
        assert_eq!(picked.len(), 3);
        assert_eq!(picked[0], picked[2]);
        assert_ne!(picked[0], picked[1]);
        assert_eq!(picked[1], features(&[0])[0]);
    }

    #[test]
    fn wrong_inputs_are_refused() {
        let model = A.model_with_blocks(3, &Device::Cpu);
        for (shape, layers, part) in [
            (&[1, 4, 224, 224][..], &[][..], "4 colour channels"),
            (&[1, 3, 13, 224], &[], "smaller than one patch"),
            (&[1, 3, 28, 28], &[3], "block 3"),
            (&[3, 28, 28], &[], "[batch, channels, height, width]"),
            (&[0, 3, 28, 28], &[], "no pictures"),
        ] {
            let images = HostTensor {
                shape: shape.to_vec(),
                values: vec![0.0; shape.iter().product()],
            };
            let error = block_on(model.logits_and_features(images, layers))
                .expect_err("the input does not fit");
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}

mod gpu {
    use std::sync::LazyLock;

    use super::*;
    use aim_web::device::gpu::{Adapters, open};

    static DEVICE: LazyLock<Device> = LazyLock::new(|| {
        let gpu = block_on(open(Adapters::Any)).unwrap_or_else(|error| {
            panic!("the GPU tests need an adapter: {error}");
        });
        println!("adapter: {}", gpu.adapter);
        Device::Gpu(gpu)
    });

    #[test]
    fn gpu_matches_the_reference() {
        matches_the_reference(&DEVICE, GPU_TOLERANCE);
    }

    #[test]
    fn gpu_causal_features_match_the_reference() {
        causal_features_match_the_reference(&DEVICE, GPU_TOLERANCE);
    }
}
