//! The model against the outputs of Apple's reference, on the CPU and through wgpu.

use crate::common::cases::{self, A, CASES, CPU_TOLERANCE, GPU_TOLERANCE};
use crate::common::goldens::relative_error;
use aim_web::device::Device;
use aim_web::engine::{Engine, HostTensor, Pool};
use pollster::block_on;

fn matches_the_reference(device: &Device, tolerance: f32) {
    block_on(cases::matches_the_reference(CASES, device, tolerance));
}

fn causal_features_match_the_reference(device: &Device, tolerance: f32) {
    block_on(cases::causal_features_match_the_reference(
        device, tolerance,
    ));
}

/// The mean of two layers, by tokens and pooled, is what the layers' own outputs give; the probe pools as on the CPU.
fn pooled_is_the_mean_of_layers(device: &Device, tolerance: f32) {
    let model = block_on(A.model(device));
    let pooled = |model: &dyn Engine, pool: Pool| {
        block_on(model.pooled(A.images(), &[1, 2], pool)).expect("the input fits")
    };
    let layers = block_on(model.features(A.images(), &[1, 2])).expect("the input fits");
    let [_, tokens, dim] = layers[0].shape[..] else {
        panic!("{:?}", layers[0].shape);
    };
    let both = layers[0].values.iter().zip(&layers[1].values);
    let mean: Vec<f32> = both.map(|(a, b)| (a + b) / 2.0).collect();
    let over_tokens: Vec<f32> = (0..dim)
        .map(|at| mean.iter().skip(at).step_by(dim).sum::<f32>() / tokens as f32)
        .collect();
    let by_probe = pooled(&*block_on(A.model(&Device::Cpu)), Pool::Probe);
    for (pool, shape, expected) in [
        (Pool::None, vec![1, tokens, dim], mean),
        (Pool::Mean, vec![1, dim], over_tokens),
        (Pool::Probe, vec![1, dim], by_probe.values),
    ] {
        let own = pooled(&*model, pool);
        assert_eq!(own.shape, shape);
        let largest = expected.iter().fold(0.0_f32, |l, v| l.max(v.abs()));
        let error = relative_error(&own.values, &expected, largest);
        assert!(error <= tolerance, "{pool:?} is off by {error:e}");
    }
}

fn logits(model: &dyn Engine, images: HostTensor) -> Vec<f32> {
    let output = block_on(model.logits_and_features(images, &[])).expect("the input fits");
    output.logits.values
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
    fn cpu_pools_the_mean_of_layers() {
        pooled_is_the_mean_of_layers(&Device::Cpu, CPU_TOLERANCE);
    }

    #[test]
    fn a_batch_gives_what_its_pictures_give_one_by_one() {
        let case = &CASES[1];
        let model = block_on(case.model(&Device::Cpu));
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
        let full = block_on(A.model(&Device::Cpu));
        let stopped = block_on(A.model_with_blocks(3, &Device::Cpu));
        assert_eq!((full.blocks(), stopped.blocks()), (4, 3));
        assert_eq!(logits(&*full, A.images()), logits(&*stopped, A.images()));
    }

    #[test]
    fn features_come_in_the_order_asked_for() {
        let model = block_on(A.model(&Device::Cpu));
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
        let model = block_on(A.model_with_blocks(3, &Device::Cpu));
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
    use aim_web::device::gpu::{Adapters, Extent, Language, open, open_as};

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

    /// No f16, no subgroups, 16 KiB of shared memory, 256 units.
    #[test]
    fn the_least_gpu_matches_the_reference() {
        let least = open_as(Adapters::Any, Language::Wgsl, Extent::Least);
        let least = block_on(least).expect("every adapter has it");
        matches_the_reference(&Device::Gpu(least), GPU_TOLERANCE);
    }

    #[test]
    fn gpu_pools_the_mean_of_layers() {
        pooled_is_the_mean_of_layers(&DEVICE, GPU_TOLERANCE);
    }

    #[test]
    fn gpu_causal_features_match_the_reference() {
        causal_features_match_the_reference(&DEVICE, GPU_TOLERANCE);
    }
}
