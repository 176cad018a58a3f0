//! Taught heads on a trunk: the features that they are trained on are those that they are given.

use aim_web::classifier::Classifier;
use aim_web::device::{Device, gpu};
use aim_web::engine::{Engine, HostTensor};
use aim_web::labels::Labels;
use aim_web::precision::Precision;
use aim_web::probe::{Examples, Head, HeadFile, HeadKind, Trunk};
use aim_web::weights::LocalModel;
use aim_web::{ErrorKind, embedded};
use pollster::block_on;

use super::cases::{self, train};
use super::common::generator::{Generated, normal};

/// The logits of a head, as the paper has it, in f64.
///
/// - `x`: `[tokens, dim]`
pub fn logits(head: &Head, x: &[f32]) -> Vec<f32> {
    let dim = head.dim();
    let head_dim = dim / head.num_heads;
    let rows: Vec<Vec<f64>> = x
        .chunks_exact(dim)
        .map(|token| {
            let statistics = head.running_mean.iter().zip(&head.running_var);
            let parts = token.iter().zip(statistics);
            parts
                .map(|(x, (mean, var))| f64::from(x - mean) / (f64::from(*var) + 1e-6).sqrt())
                .collect()
        })
        .collect();
    let times = |matrix: &[f32], x: &[f64]| -> Vec<f64> {
        let rows = matrix.chunks_exact(dim);
        rows.map(|row| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum())
            .collect()
    };
    let keys: Vec<_> = rows.iter().map(|x| times(&head.k, x)).collect();
    let values: Vec<_> = rows.iter().map(|x| times(&head.v, x)).collect();
    let mut pooled = vec![0.0; dim];
    for of in 0..head.num_heads {
        let range = of * head_dim..(of + 1) * head_dim;
        let scores: Vec<f64> = keys
            .iter()
            .map(|key| {
                let query = &head.cls_token[range.clone()];
                let dot: f64 = query
                    .iter()
                    .zip(&key[range.clone()])
                    .map(|(q, k)| f64::from(*q) * k)
                    .sum();
                (dot / (head_dim as f64).sqrt()).exp()
            })
            .collect();
        let sum: f64 = scores.iter().sum();
        for (score, value) in scores.iter().zip(&values) {
            for at in range.clone() {
                pooled[at] += score / sum * value[at];
            }
        }
    }
    times(&head.linear, &pooled)
        .into_iter()
        .map(|logit| logit as f32)
        .collect()
}

fn small() -> LocalModel {
    let config = cases::config();
    let files: Vec<Box<dyn aim_web::weights::checkpoint::Checkpoint>> =
        vec![Box::new(Generated::new("trunk", &config))];
    LocalModel::new(files, config, None)
}

fn images(pictures: usize) -> HostTensor {
    let shape = vec![pictures, 3, 28, 42];
    let count = shape.iter().product();
    HostTensor {
        values: normal("images", "input", count).map(|z| z as f32).collect(),
        shape,
    }
}

fn close(ours: &[f32], theirs: &[f32], tolerance: f32) {
    let largest = theirs
        .iter()
        .fold(0.0_f32, |most, value| most.max(value.abs()));
    for (a, b) in ours.iter().zip(theirs) {
        assert!((a - b).abs() <= tolerance * largest, "{ours:?} {theirs:?}");
    }
}

fn a_taught_head_runs_on(device: &Device, tolerance: f32) {
    let engine = block_on(small().load(device, Precision::Fp32)).unwrap();
    let probed = block_on(engine.probed(images(4))).unwrap();
    assert_eq!(probed.shape, [4, 6, 48]);
    // The mean of the probe layers.
    let layers = block_on(engine.features(images(4), &[0, 1])).unwrap();
    let mean: Vec<f32> = layers[0]
        .values
        .iter()
        .zip(&layers[1].values)
        .map(|(a, b)| (a + b) / 2.0)
        .collect();
    close(&probed.values, &mean, tolerance);

    for kind in [HeadKind::Mean, HeadKind::Linear, HeadKind::Attention] {
        let head = train(&cases::examples(&[5, 5, 5], 0.3), kind, 0).0;
        let trunk = Trunk {
            sha256: engine.trunk_sha256().to_owned(),
            ..cases::trunk()
        };
        let file = HeadFile {
            trunk,
            ..cases::file(head, 3)
        };
        let taught = file.on(&*engine).unwrap();
        assert_eq!(taught.config().num_classes, 3);
        assert_eq!(taught.trunk_sha256(), engine.trunk_sha256());
        let output = block_on(taught.logits_and_features(images(4), &[])).unwrap();
        assert_eq!(output.logits.shape, [4, 3]);
        let wanted: Vec<f32> = probed
            .values
            .chunks_exact(6 * 48)
            .flat_map(|x| logits(&file.head, x))
            .collect();
        close(&output.logits.values, &wanted, tolerance);
    }
    // The model's own head is still there.
    let own = block_on(engine.logits_and_features(images(1), &[])).unwrap();
    assert_eq!(own.logits.shape, [1, 7]);
}

#[test]
fn on_the_cpu() {
    a_taught_head_runs_on(&Device::Cpu, 1e-5);
}

#[test]
fn on_a_gpu() {
    let device = Device::Gpu(block_on(gpu::open(gpu::Adapters::Any)).unwrap());
    a_taught_head_runs_on(&device, 1e-4);
}

fn engine(seed: &str) -> Box<dyn Engine> {
    let config = cases::config();
    let files: Vec<Box<dyn aim_web::weights::checkpoint::Checkpoint>> =
        vec![Box::new(Generated::new(seed, &config))];
    block_on(LocalModel::new(files, config, None).load(&Device::Cpu, Precision::Fp32)).unwrap()
}

#[test]
fn a_head_knows_its_trunk() {
    let hashes = ["a", "a", "b"].map(|seed| engine(seed).trunk_sha256().to_owned());
    assert_eq!(hashes[0], hashes[1]);
    assert_ne!(hashes[0], hashes[2]);
    let head = train(&cases::examples(&[3, 3], 0.3), HeadKind::Mean, 0).0;
    let [own, other] = [0, 2].map(|of: usize| HeadFile {
        trunk: Trunk {
            sha256: hashes[of].clone(),
            ..cases::trunk()
        },
        ..cases::file(head.clone(), 2)
    });
    let on = engine("a");
    own.on(&*on).unwrap();
    assert_eq!(other.on(&*on).err().unwrap().kind(), ErrorKind::Integrity);
    let mut elsewhere = own.clone();
    elsewhere.config.probe_layers = vec![0];
    assert_eq!(
        elsewhere.on(&*on).err().unwrap().kind(),
        ErrorKind::Integrity
    );
}

#[test]
fn the_embedded_model_learns_from_photographs() {
    let model = embedded::open().unwrap();
    let engine = block_on(model.load(&Device::Cpu, Precision::Auto)).unwrap();
    let classifier = Classifier::new(engine, Labels::unnamed(21)).unwrap();
    let engine = classifier.engine();
    let classes = ["hand", "garment"].map(str::to_owned);
    let mut examples = Examples::new(engine.config(), &classes).unwrap();
    let mut pictures = Vec::new();
    for folder in std::fs::read_dir("tests/photos").unwrap() {
        let folder = folder.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let class = usize::from(name.parse::<u8>().is_err());
        for file in std::fs::read_dir(folder).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            pictures.push((class, aim_web::image::decode(&bytes).unwrap()));
        }
    }
    for (class, picture) in &pictures {
        let probed = block_on(engine.probed(classifier.images(picture))).unwrap();
        examples.push(*class, &probed.values).unwrap();
    }
    let (head, report) = train(&examples, HeadKind::Auto, 0);
    assert!(report.accuracy.unwrap() > 0.7, "{:?}", report.confusion);
    let trunk = Trunk {
        name: "aim-tiny".to_owned(),
        arch: None,
        sha256: engine.trunk_sha256().to_owned(),
    };
    let file = HeadFile::new(head, engine.config(), &classes, trunk);
    let taught = classifier.with_head(&file).unwrap();
    let right = pictures.iter().filter(|(class, picture)| {
        block_on(taught.classify(picture, 1)).unwrap()[0].label == classes[*class]
    });
    assert!(right.count() * 10 >= pictures.len() * 9);
}
