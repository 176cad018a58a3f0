//! The models of `tests/goldens`, and the comparison with what the reference makes of them.

use aim_web::config::Config;
use aim_web::device::Device;
use aim_web::engine::{self, Engine, HostTensor};
use aim_web::precision::Precision;
use aim_web::weights::checkpoint::Checkpoint;

use super::generator::{self, Generated};
use super::goldens;

/// `max |ours - reference| / max |reference|`; the reference's own f32 noise is 4e-7.
pub const CPU_TOLERANCE: f32 = 1e-5;
pub const GPU_TOLERANCE: f32 = 1e-4;

/// A model, an input, and the file of what the reference makes of them.
pub struct Case {
    pub name: &'static str,
    pub weights_seed: &'static str,
    pub input_seed: &'static str,
    pub embed_dim: usize,
    pub num_blocks: usize,
    pub probe_layers: &'static [usize],
    pub input: [usize; 4],
}

pub const A: Case = Case {
    name: "a_tiny_best",
    weights_seed: "a",
    input_seed: "a.in",
    embed_dim: 128,
    num_blocks: 4,
    probe_layers: &[1, 2],
    input: [1, 3, 224, 224],
};

/// From the reference itself (`a_`, `c_`) and from `pkg-scripts/goldens/make.py`.
pub const CASES: &[Case] = &[
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
    pub fn config(&self) -> Config {
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

    pub async fn model(&self, device: &Device) -> Box<dyn Engine> {
        self.model_with_blocks(self.num_blocks, device).await
    }

    pub async fn model_with_blocks(&self, blocks: usize, device: &Device) -> Box<dyn Engine> {
        let config = self.config();
        let weights: Box<dyn Checkpoint> = Box::new(Generated::new(self.weights_seed, &config));
        engine::load(&mut [weights], config, blocks, Precision::Fp32, device)
            .await
            .expect("the generated weights load")
    }

    pub fn images(&self) -> HostTensor {
        HostTensor {
            shape: self.input.to_vec(),
            values: generator::tensor(self.input_seed, "input", &self.input),
        }
    }
}

/// Logits, the order of the best five, and the output of every block.
pub async fn matches_the_reference(cases: &[Case], device: &Device, tolerance: f32) {
    for case in cases {
        let layers: Vec<usize> = (0..case.num_blocks).collect();
        let model = case.model(device).await;
        let output = model
            .logits_and_features(case.images(), &layers)
            .await
            .expect("the input fits");

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

/// The outputs of the blocks under the prefix-causal mask.
pub async fn causal_features_match_the_reference(device: &Device, tolerance: f32) {
    let case = Case {
        name: "h_prefix",
        input_seed: "h_prefix.in",
        input: [1, 3, 98, 98],
        ..A
    };
    let model = case.model(device).await;
    let features = model
        .causal_features(case.images(), &[0, 1, 2, 3], 11)
        .await
        .expect("the input fits");
    for (layer, feature) in features.into_iter().enumerate() {
        let golden = goldens::read(case.name, &format!("features.{layer}")).expect("in the file");
        let error = golden.error(&feature.values);
        println!("{} block {layer} {error:.1e}", case.name);
        assert!(error <= tolerance, "block {layer} is off by {error:e}");
    }
}
