//! The gradients that are written out in `probe::attention`, against burn's automatic ones.
#![allow(deprecated)] // burn 0.21 is the last line that has burn-candle.

use aim_web::model::norm::EPSILON;
use aim_web::probe::attention::{Attention, loss_and_gradients};
use aim_web::probe::normalization::Normalization;
use aim_web::probe::objective::Objective;
use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Tensor, TensorData};
use burn_autodiff::Autodiff;

use super::cases::{self, TOKENS, config, examples};
use super::common::generator::normal;

type B = Autodiff<burn_candle::Candle<f32, i64>>;

const COUNTS: [usize; 4] = [3, 2, 4, 1];
const SMOOTHING: f32 = 0.1;

fn tensor<const D: usize>(values: &[f32], shape: [usize; D]) -> Tensor<B, D> {
    let device = burn_candle::CandleDevice::Cpu;
    Tensor::from_data(TensorData::new(values.to_vec(), shape), &device)
}

fn values(name: &str, count: usize, scale: f64) -> Vec<f32> {
    normal("gradients", name, count)
        .map(|z| (scale * z) as f32)
        .collect()
}

/// The features of a picture, as training reads them: in 16 bits.
fn features(picture: usize) -> Vec<f32> {
    let (class, nth) = COUNTS
        .iter()
        .enumerate()
        .flat_map(|(class, &count)| (0..count).map(move |nth| (class, nth)))
        .nth(picture)
        .unwrap();
    cases::features(class, nth, 0.5)
        .into_iter()
        .map(|value| half::f16::from_f32(value).to_f32())
        .collect()
}

#[test]
fn they_are_those_of_autodiff() {
    let config = config();
    let (dim, heads, classes) = (config.embed_dim, config.num_heads, COUNTS.len());
    let examples = examples(&COUNTS, 0.5);
    let labels = examples.labels().to_vec();
    let objective = Objective::balanced(&COUNTS, SMOOTHING);
    let all: Vec<usize> = (0..labels.len()).collect();
    let normalization = Normalization::of(&examples, &all, &objective.weights);
    let parameters = [
        values("cls_token", dim, 1.0),
        values("k", dim * dim, 0.3),
        values("v", dim * dim, 0.3),
        values("linear", classes * dim, 0.3),
    ];
    let probe = Attention::from_parameters(parameters.clone(), heads).unwrap();
    // A batch that is not all of them, in an order of its own.
    let batch = [8, 0, 5, 3, 9, 2];
    let (loss, ours) = loss_and_gradients(&probe, &examples, &normalization, &objective, &batch);

    let [cls_token, k, v, linear] = parameters;
    let cls_token = tensor(&cls_token, [1, heads, 1, dim / heads]).require_grad();
    let k = tensor(&k, [dim, dim]).require_grad();
    let v = tensor(&v, [dim, dim]).require_grad();
    let linear = tensor(&linear, [classes, dim]).require_grad();

    let x: Vec<f32> = batch
        .iter()
        .flat_map(|&picture| features(picture))
        .collect();
    let x = tensor(&x, [batch.len() * TOKENS, dim]);
    let mean = tensor(&normalization.mean, [1, dim]);
    let variance = tensor(&normalization.variance, [1, dim]);
    let x = (x - mean) / (variance + EPSILON).sqrt();
    // As the head of the paper has it: keys and values of every token.
    let split = |x: Tensor<B, 2>| {
        x.reshape([batch.len(), TOKENS, heads, dim / heads])
            .swap_dims(1, 2)
    };
    let keys = split(x.clone().matmul(k.clone().transpose()));
    let tokens = split(x.matmul(v.clone().transpose()));
    let scale = ((dim / heads) as f64).sqrt().recip();
    let query = cls_token.clone().repeat_dim(0, batch.len());
    let weights = softmax(query.matmul(keys.swap_dims(2, 3)) * scale, 3);
    let pooled = weights
        .matmul(tokens)
        .swap_dims(1, 2)
        .reshape([batch.len(), dim]);
    let logits = pooled.matmul(linear.clone().transpose());

    let mut wanted = vec![0.0; batch.len() * classes];
    for (row, &picture) in wanted.chunks_exact_mut(classes).zip(&batch) {
        let weight = objective.weights[labels[picture]];
        for (class, wanted) in row.iter_mut().enumerate() {
            let own = if class == labels[picture] {
                1.0 - SMOOTHING
            } else {
                0.0
            };
            *wanted = weight * (own + SMOOTHING / classes as f32);
        }
    }
    let wanted = tensor(&wanted, [batch.len(), classes]);
    let sum = (log_softmax(logits, 1) * wanted).sum().neg() / batch.len() as f64;
    let gradients = sum.backward();

    let theirs_loss: f32 = sum.into_scalar();
    assert!(
        (loss - theirs_loss).abs() < 1e-5 * theirs_loss.abs(),
        "{loss} {theirs_loss}"
    );
    let theirs: [(&str, Vec<f32>, &[f32]); 4] = [
        (
            "cls_token",
            cls_token
                .grad(&gradients)
                .unwrap()
                .into_data()
                .into_vec()
                .unwrap(),
            &ours.cls_token,
        ),
        (
            "k",
            k.grad(&gradients).unwrap().into_data().into_vec().unwrap(),
            &ours.k,
        ),
        (
            "v",
            v.grad(&gradients).unwrap().into_data().into_vec().unwrap(),
            &ours.v,
        ),
        (
            "linear",
            linear
                .grad(&gradients)
                .unwrap()
                .into_data()
                .into_vec()
                .unwrap(),
            &ours.linear,
        ),
    ];
    for (name, theirs, ours) in theirs {
        assert_eq!(theirs.len(), ours.len(), "{name}");
        let largest = theirs
            .iter()
            .fold(0.0_f32, |most, value| most.max(value.abs()));
        let off = theirs.iter().zip(ours).map(|(a, b)| (a - b).abs());
        let off = off.fold(0.0, f32::max);
        println!("{name}: {:e} of the largest", off / largest);
        assert!(largest > 1e-3, "{name} has no gradient");
        assert!(off <= 1e-5 * largest, "{name}: {off:e} of {largest:e}");
    }
}
