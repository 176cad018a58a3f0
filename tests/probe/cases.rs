//! Lessons from a seed, and what becomes of them everywhere: `tests/browser` runs these in a browser too.
#![allow(dead_code)] // A browser runs a part of them.

use aim_web::config::Config;
use aim_web::probe::training::HeldOut;
use aim_web::probe::{Examples, Head, HeadFile, HeadKind, Options, Report, Training, Trunk};
use sha2::{Digest as _, Sha256};

use crate::common::generator::normal;

/// Pictures of 2 x 3 patches.
pub fn config() -> Config {
    Config {
        img_size: [28, 42],
        patch_size: [14, 14],
        num_channels: 3,
        embed_dim: 48,
        num_blocks: 2,
        num_heads: 3,
        num_classes: 7,
        probe_layers: vec![0, 1],
        quantization: None,
    }
}

pub const TOKENS: usize = 6;

/// The features of a picture. Classes differ in one token, whose place is another in each picture, under noise of that
/// size.
pub fn features(class: usize, picture: usize, noise: f64) -> Vec<f32> {
    let dim = config().embed_dim;
    let mut features: Vec<f32> = normal("noise", &format!("{class}/{picture}"), TOKENS * dim)
        .enumerate()
        // No channel is like the others.
        .map(|(at, z)| (noise * z * (1.0 + (at % 5) as f64) + (at % 3) as f64) as f32)
        .collect();
    let place = (picture * 5 + class) % TOKENS * dim;
    let name = class.to_string();
    let mark = normal("mark", &name, dim);
    for (value, mark) in features[place..].iter_mut().zip(mark) {
        *value += mark as f32;
    }
    features
}

/// A lesson of classes with so many pictures each.
pub fn examples(counts: &[usize], noise: f64) -> Examples {
    let classes: Vec<String> = (0..counts.len()).map(|c| format!("class {c}")).collect();
    let mut examples = Examples::new(&config(), &classes).unwrap();
    for (class, &count) in counts.iter().enumerate() {
        for picture in 0..count {
            examples
                .push(class, &features(class, picture, noise))
                .unwrap();
        }
    }
    examples
}

pub fn train(examples: &Examples, head: HeadKind, seed: u64) -> (Head, Report) {
    let options = Options {
        head,
        seed,
        ..Options::default()
    };
    Training::new(examples, options).unwrap().finish().unwrap()
}

pub fn trunk() -> Trunk {
    Trunk {
        name: "user/trunk@main".to_owned(),
        arch: None,
        sha256: "0123456789abcdef".repeat(4),
    }
}

pub fn file(head: Head, classes: usize) -> HeadFile {
    let names: Vec<String> = (0..classes).map(|c| format!("class {c}")).collect();
    HeadFile::new(head, &config(), &names, trunk())
}

/// The hash of the numbers of three heads, on every machine.
const HASHES: [(HeadKind, &str); 3] = [
    (HeadKind::Mean, "b86ac3606fcdda7a"),
    (HeadKind::Linear, "3aa57b346adb9d2d"),
    (HeadKind::Attention, "3422190b06c6d602"),
];

/// Training is the same everywhere, bit for bit.
pub fn training_is_the_same_everywhere() {
    let examples = examples(&[9, 12, 7], 0.4);
    let hashes = HASHES.map(|(kind, _)| {
        let options = Options {
            head: kind,
            seed: 7,
            epochs: Some(6),
            held_out: HeldOut::Share(0.25),
            ..Options::default()
        };
        let training = Training::new(&examples, options).unwrap();
        let (head, _) = training.finish().unwrap();
        let mut hash = Sha256::new();
        for values in [
            &head.running_mean,
            &head.running_var,
            &head.cls_token,
            &head.k,
            &head.v,
            &head.linear,
        ] {
            values
                .iter()
                .for_each(|value| hash.update(value.to_le_bytes()));
        }
        hash.finalize()[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    });
    assert_eq!(hashes, HASHES.map(|(_, hash)| hash));
}
