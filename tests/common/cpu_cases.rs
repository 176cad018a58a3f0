//! The operations on slices against f64, for tests natively and in a browser.

use aim_web::cpu::attention::{Head, Workspace, attend};
use aim_web::cpu::block::Block;
use aim_web::cpu::epilogue::Epilogue;
use aim_web::cpu::float::FloatMatrix;
use aim_web::cpu::gelu::{exp_of, gelu_of};
use aim_web::cpu::matrix::Matrix;
use aim_web::cpu::norm::Norm;
use aim_web::cpu::patches::patches;
use aim_web::cpu::pool::Probe;

use super::int8_cases::values;

const EPSILON: f32 = 1e-6;

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// As near as f32 sums come: `tolerance` of the largest value.
fn assert_near(got: &[f32], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let size = want
        .iter()
        .fold(1e-30, |size: f64, want| size.max(want.abs()));
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(*got) - want).abs();
        assert!(
            error <= tolerance * size,
            "{what}: {got} at {at} in place of {want}"
        );
    }
}

fn matrix(w: &[f32], [d_output, d_input]: [usize; 2]) -> FloatMatrix {
    let mut matrix = FloatMatrix::zeros(d_output, d_input).unwrap();
    for (row, values) in w.chunks(d_input).enumerate() {
        matrix.set_row(row, values);
    }
    matrix
}

/// `x Wᵀ`
fn product(x: &[f64], w: &[f64], d_input: usize) -> Vec<f64> {
    let row = |x: &[f64]| -> Vec<f64> {
        let dot = |w: &[f64]| -> f64 { x.iter().zip(w).map(|(x, w)| x * w).sum() };
        w.chunks(d_input).map(dot).collect()
    };
    x.chunks(d_input).flat_map(row).collect()
}

/// By its series, and far from 0 by the continued fraction of what it lacks to 1.
fn erf(x: f64) -> f64 {
    let root = std::f64::consts::PI.sqrt();
    if x.abs() > 2.0 {
        let fraction = (1..100)
            .rev()
            .fold(x.abs(), |rest, n| x.abs() + f64::from(n) / 2.0 / rest);
        return x.signum() * (1.0 - (-x * x).exp() / root / fraction);
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..60 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / root
}

fn gelu(x: f64) -> f64 {
    x * 0.5 * (1.0 + erf(x / std::f64::consts::SQRT_2))
}

fn layer_norm(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let row = |x: &[f64]| -> Vec<f64> {
        let middle = mean(x);
        let squares: Vec<f64> = x.iter().map(|x| (x - middle).powi(2)).collect();
        let deviation = (mean(&squares) + f64::from(EPSILON)).sqrt();
        let affine = weight.iter().zip(bias);
        x.iter()
            .zip(affine)
            .map(|(x, (weight, bias))| (x - middle) / deviation * weight + bias)
            .collect()
    };
    x.chunks(weight.len()).flat_map(row).collect()
}

/// Attention of one head of one picture, for some queries: `[queries, head_dim]`.
fn attention(
    qkv: &[f64],
    [dim, head, head_dim]: [usize; 3],
    queries: std::ops::Range<usize>,
) -> Vec<f64> {
    let part = |token: usize, part: usize| {
        let start = (3 * token + part) * dim + head * head_dim;
        &qkv[start..start + head_dim]
    };
    let tokens = qkv.len() / (3 * dim);
    let mut out = Vec::new();
    for query in queries {
        let scores: Vec<f64> = (0..tokens)
            .map(|key| {
                let dot: f64 = part(query, 0)
                    .iter()
                    .zip(part(key, 1))
                    .map(|(q, k)| q * k)
                    .sum();
                dot / (head_dim as f64).sqrt()
            })
            .collect();
        let most = scores
            .iter()
            .fold(f64::NEG_INFINITY, |most, score| most.max(*score));
        let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
        let sum: f64 = weights.iter().sum();
        out.extend((0..head_dim).map(|channel| {
            let terms = weights.iter().enumerate();
            terms
                .map(|(key, weight)| weight / sum * part(key, 2)[channel])
                .sum::<f64>()
        }));
    }
    out
}

pub fn products_are_those_of_f64() {
    for [d_output, d_input] in [[1, 1], [15, 7], [16, 64], [17, 513], [40, 1030]] {
        let w = values(d_output * d_input, 1);
        let matrix = matrix(&w, [d_output, d_input]);
        let bias = values(d_output, 3);
        // One row, whole tiles, and every rest.
        for n in [1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 25] {
            let x = values(n * d_input, 2);
            let want = product(&wide(&x), &wide(&w), d_input);
            let before = values(n * d_output, 4);
            for (epilogue, change) in [
                (Epilogue::None, None::<fn(f64, f64, f64) -> f64>),
                (Epilogue::Gelu, Some(|y, _, _| gelu(y))),
                (Epilogue::Add, Some(|y, before, _| y + before)),
                (Epilogue::Bias(&bias), Some(|y, _, bias| y + bias)),
            ] {
                // What stood there must not matter but to what is added to it.
                let mut y = if epilogue == Epilogue::Add {
                    before.clone()
                } else {
                    vec![f32::NAN; before.len()]
                };
                matrix.product(&x, &mut y, epilogue);
                let want: Vec<f64> = want
                    .iter()
                    .enumerate()
                    .map(|(at, &want)| {
                        let bias = f64::from(bias[at % d_output]);
                        change.map_or(want, |change| change(want, f64::from(before[at]), bias))
                    })
                    .collect();
                let what = format!("{n} x {d_output} x {d_input}, {epilogue:?}");
                assert_near(&y, &want, 2e-6, &what);
            }
        }
    }
}

pub fn a_row_that_is_not_finite_spoils_no_other() {
    let (n, dims) = (8, [20, 33]);
    let matrix = matrix(&values(20 * 33, 1), dims);
    for broken in [f32::NAN, f32::INFINITY] {
        let mut x = values(n * 33, 2);
        let mut want = vec![0.0; n * 20];
        matrix.product(&x, &mut want, Epilogue::None);
        x[3 * 33 + 5] = broken;
        let mut y = vec![0.0; n * 20];
        matrix.product(&x, &mut y, Epilogue::None);
        for (row, (y, want)) in y.chunks(20).zip(want.chunks(20)).enumerate() {
            if row == 3 {
                assert!(y.iter().all(|y| !y.is_finite()));
            } else {
                assert_eq!(y, want);
            }
        }
    }
}

pub fn gelu_is_exact_to_a_millionth() {
    let mut x: Vec<f32> = (-12_000..12_000).map(|i| i as f32 / 1000.0).collect();
    x.extend([1e-30, -1e-30, 1e-40, 0.0, 100.0, -100.0, 1e30]);
    let mut y = x.clone();
    gelu_of(&mut y);
    for (x, y) in x.iter().zip(&y) {
        let want = gelu(f64::from(*x));
        let error = (f64::from(*y) - want).abs();
        assert!(
            error <= 1e-6 * want.abs().max(1.0),
            "{y} in place of {want}"
        );
    }
    let mut broken = [f32::NAN, f32::INFINITY];
    gelu_of(&mut broken);
    assert!(
        broken[0].is_nan() && broken[1] == f32::INFINITY,
        "{broken:?}"
    );
}

pub fn exponentials_are_exact_to_a_millionth() {
    let x: Vec<f32> = (0..87_000).map(|i| -(i as f32) / 1000.0).collect();
    let mut y = x.clone();
    exp_of(&mut y);
    for (x, y) in x.iter().zip(&y) {
        let want = f64::from(*x).exp();
        let error = (f64::from(*y) - want).abs();
        assert!(error <= 1e-6 * want, "e^{x} is {want}, not {y}");
    }
    let mut ends = [-0.0, -200.0, f32::NEG_INFINITY, f32::NAN];
    exp_of(&mut ends);
    assert_eq!(ends[..3], [1.0, 0.0, 0.0]);
    assert!(ends[3].is_nan());
}

pub fn layer_norms_are_those_of_f64() {
    for dim in [1, 2, 15, 16, 65, 384] {
        // A mean that is far larger than what is around it loses digits already in the input.
        for (offset, tolerance) in [(0.0, 2e-6), (1000.0, 1e-3)] {
            let (weight, bias) = (values(dim, 1), values(dim, 2));
            let x: Vec<f32> = values(3 * dim, 3).iter().map(|x| x + offset).collect();
            let want = layer_norm(&wide(&x), &wide(&weight), &wide(&bias));
            let norm = Norm {
                weight: &weight,
                bias: &bias,
                epsilon: EPSILON,
            };
            let mut y = vec![f32::NAN; x.len()];
            for (x, y) in x.chunks(dim).zip(y.chunks_mut(dim)) {
                norm.row(x, y);
            }
            assert_near(
                &y,
                &want,
                tolerance,
                &format!("{dim} channels around {offset}"),
            );

            let mut y = vec![f32::NAN; dim];
            norm.row(&vec![0.0; dim], &mut y);
            assert_eq!(y, bias, "of a row of zeros");
            let mut broken = x[..dim].to_vec();
            broken[dim / 2] = f32::INFINITY;
            norm.row(&broken, &mut y);
            assert!(y.iter().all(|y| y.is_nan()), "of a row with an infinity");
        }
    }
}

pub fn attention_is_that_of_f64() {
    let mut workspace = Workspace::default();
    for [heads, head_dim] in [[1, 4], [3, 16], [2, 20], [1, 64]] {
        let dim = heads * head_dim;
        for tokens in [1, 2, 15, 16, 17, 24, 25, 60] {
            let qkv = values(tokens * 3 * dim, 1);
            for head in 0..heads {
                let place = Head {
                    qkv: &qkv,
                    dim,
                    head,
                    head_dim,
                };
                for first in [0, tokens / 2] {
                    let mut out = vec![f32::NAN; (tokens - first) * head_dim];
                    attend(place, first, &mut workspace, &mut out);
                    let want = attention(&wide(&qkv), [dim, head, head_dim], first..tokens);
                    let what = format!("head {head} of {heads} x {head_dim}, {tokens} tokens");
                    assert_near(&out, &want, 2e-6, &what);
                }
            }
        }
    }
}

pub fn attention_over_4096_tokens_is_that_of_f64() {
    let (tokens, dim) = (4096, 32);
    let qkv = values(tokens * 3 * dim, 1);
    let head = Head {
        qkv: &qkv,
        dim,
        head: 0,
        head_dim: dim,
    };
    let mut out = vec![f32::NAN; 5 * dim];
    attend(head, 4000, &mut Workspace::default(), &mut out);
    let want = attention(&wide(&qkv), [dim, 0, dim], 4000..4005);
    assert_near(&out, &want, 2e-6, "4096 tokens");
}

pub fn attention_takes_large_scores_and_shows_what_is_not_finite() {
    let (tokens, dim) = (30, 16);
    // Scores of some thousands: only the largest counts, and nothing overflows.
    let qkv: Vec<f32> = values(tokens * 3 * dim, 1)
        .iter()
        .map(|x| x * 60.0)
        .collect();
    let run = |qkv: &[f32]| {
        let head = Head {
            qkv,
            dim,
            head: 0,
            head_dim: dim,
        };
        let mut out = vec![0.0; tokens * dim];
        attend(head, 0, &mut Workspace::default(), &mut out);
        out
    };
    let want = attention(&wide(&qkv), [dim, 0, dim], 0..tokens);
    let whole = run(&qkv);
    assert_near(&whole, &want, 1e-4, "large scores");

    // Equal scores weigh all tokens alike.
    let mut zero = qkv.clone();
    for row in zero.chunks_mut(3 * dim) {
        row[..2 * dim].fill(0.0);
    }
    let want = attention(&wide(&zero), [dim, 0, dim], 0..tokens);
    assert_near(&run(&zero), &want, 2e-6, "zeros");

    let mut broken = qkv;
    broken[7 * 3 * dim] = f32::NAN;
    for (token, (got, want)) in run(&broken).chunks(dim).zip(whole.chunks(dim)).enumerate() {
        if token == 7 {
            assert!(got.iter().all(|got| got.is_nan()), "a broken query");
        } else {
            assert_eq!(got, want, "another query");
        }
    }
    broken[7 * 3 * dim + dim] = f32::INFINITY;
    broken[7 * 3 * dim + 2 * dim] = f32::NAN;
    assert!(
        run(&broken).chunks(dim).all(|row| row[0].is_nan()),
        "a broken value"
    );
}

pub fn a_block_is_that_of_f64() {
    let (pictures, num_heads, head_dim) = (2, 3, 8);
    let (dim, hidden) = (num_heads * head_dim, 4 * num_heads * head_dim);
    // One token, and more than threads take at once.
    for tokens in [1, 37] {
        let mut x = values(pictures * tokens * dim, 1);
        let shapes = [[3 * dim, dim], [dim, dim], [hidden, dim], [dim, hidden]];
        let weights = shapes.map(|[d_output, d_input]| {
            let scale = 1.0 / (d_input as f32).sqrt();
            let values = values(d_output * d_input, d_input as u64);
            values.iter().map(|w| w * scale).collect::<Vec<_>>()
        });
        let affine: [Vec<f32>; 4] = std::array::from_fn(|i| values(dim, 10 + i as u64));

        let mut want = wide(&x);
        let [qkv_w, proj_w, fc1_w, fc2_w] = weights.each_ref().map(|w| wide(w));
        let [w1, b1, w2, b2] = affine.each_ref().map(|w| wide(w));
        let qkv = product(&layer_norm(&want, &w1, &b1), &qkv_w, dim);
        let mut attended = vec![0.0; want.len()];
        for picture in 0..pictures {
            let qkv = &qkv[picture * tokens * 3 * dim..(picture + 1) * tokens * 3 * dim];
            for head in 0..num_heads {
                let out = attention(qkv, [dim, head, head_dim], 0..tokens);
                for (token, out) in out.chunks(head_dim).enumerate() {
                    let at = (picture * tokens + token) * dim + head * head_dim;
                    attended[at..at + head_dim].copy_from_slice(out);
                }
            }
        }
        let add = |x: &mut Vec<f64>, y: Vec<f64>| x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
        add(&mut want, product(&attended, &proj_w, dim));
        let between = product(&layer_norm(&want, &w2, &b2), &fc1_w, dim);
        let between: Vec<f64> = between.into_iter().map(gelu).collect();
        add(&mut want, product(&between, &fc2_w, hidden));

        let matrices: [Matrix; 4] =
            std::array::from_fn(|i| Matrix::Float(matrix(&weights[i], shapes[i])));
        let [qkv, proj, fc1, fc2] = &matrices;
        let norm = |i: usize| Norm {
            weight: &affine[i],
            bias: &affine[i + 1],
            epsilon: EPSILON,
        };
        let block = Block {
            norm_1: norm(0),
            qkv,
            proj,
            norm_2: norm(2),
            fc1,
            fc2,
            num_heads,
        };
        block.forward(&mut x, tokens).unwrap();
        assert_near(&x, &want, 2e-6, &format!("{tokens} tokens"));

        let mut odd = vec![0.0; dim + 1];
        assert!(block.forward(&mut odd, tokens).is_err(), "half a row");
    }
}

pub fn the_probe_is_that_of_f64() {
    let (pictures, tokens, num_heads, head_dim, num_classes) = (2, 70, 2, 12, 19);
    let dim = num_heads * head_dim;
    let x = values(pictures * tokens * dim, 1);
    let [mean, cls_token] = [2, 3].map(|seed| values(dim, seed));
    let std: Vec<f32> = values(dim, 4).iter().map(|v| v.abs() + 0.5).collect();
    let shapes = [[dim, dim], [dim, dim], [num_classes, dim]];
    let weights: [Vec<f32>; 3] = std::array::from_fn(|i| values(shapes[i][0] * dim, 5 + i as u64));

    let normal: Vec<f64> = x
        .iter()
        .enumerate()
        .map(|(at, x)| (f64::from(*x) - f64::from(mean[at % dim])) / f64::from(std[at % dim]))
        .collect();
    let keys = product(&normal, &wide(&weights[0]), dim);
    let of_values = product(&normal, &wide(&weights[1]), dim);
    let mut want = Vec::new();
    for picture in 0..pictures {
        let rows = picture * tokens..(picture + 1) * tokens;
        let mut pooled = Vec::new();
        for channel in 0..dim {
            let head = channel / head_dim * head_dim;
            let scores = rows.clone().map(|row| {
                let key = &keys[row * dim + head..row * dim + head + head_dim];
                let query = &cls_token[head..head + head_dim];
                let dot: f64 = query.iter().zip(key).map(|(q, k)| f64::from(*q) * k).sum();
                (dot / (head_dim as f64).sqrt()).exp()
            });
            let weights: Vec<f64> = scores.collect();
            let terms = rows.clone().zip(&weights);
            let sum: f64 = terms
                .map(|(row, w)| w * of_values[row * dim + channel])
                .sum();
            pooled.push(sum / weights.iter().sum::<f64>());
        }
        want.extend(product(&pooled, &wide(&weights[2]), dim));
    }

    let matrices: [Matrix; 3] =
        std::array::from_fn(|i| Matrix::Float(matrix(&weights[i], shapes[i])));
    let [k, v, linear] = &matrices;
    let probe = Probe {
        running_mean: &mean,
        running_std: &std,
        cls_token: &cls_token,
        k,
        v,
        linear,
        num_heads,
    };
    assert_near(&probe.forward(&x, tokens).unwrap(), &want, 1e-5, "logits");
    assert!(probe.forward(&x[1..], tokens).is_err(), "half a row");
}

pub fn patches_are_cut_row_by_row() {
    let dims = [2, 3, 9, 13];
    let [batch, channels, height, width] = dims;
    let images: Vec<f32> = (0..batch * channels * height * width)
        .map(|i| i as f32)
        .collect();
    let (got, shape) = patches(&images, dims, [4, 3]);
    assert_eq!(shape, [2, 2 * 4, 3 * 4 * 3]);
    let mut want = Vec::new();
    for b in 0..batch {
        for (row, column) in (0..2).flat_map(|row| (0..4).map(move |column| (row, column))) {
            for (c, y, x) in
                (0..channels).flat_map(|c| (0..4).flat_map(move |y| (0..3).map(move |x| (c, y, x))))
            {
                let at = ((b * channels + c) * height + row * 4 + y) * width + column * 3 + x;
                want.push(images[at]);
            }
        }
    }
    assert_eq!(got, want);
    // A picture smaller than a patch has none.
    assert!(patches(&images, dims, [10, 3]).0.is_empty());
}
