//! What a pass over pictures costs: arithmetic, and memory beside the model's weights.

use crate::config::Config;
use crate::device::backend::AimBackend;
use crate::error::{Error, ErrorKind, Result};
use crate::memory;
use crate::precision::{Precision, WeightFormat};

/// The floating-point operations of one picture of the trained size through the first `blocks` blocks and the probe: two
/// for each multiplication with its addition. What is no product (norms, GELU, softmax) is not counted.
pub fn flops(config: &Config, blocks: usize) -> f64 {
    let [height, width] = config.img_size;
    let [patch_height, patch_width] = config.patch_size;
    let float = |n: usize| n as f64;
    let tokens = float(height / patch_height) * float(width / patch_width);
    let dim = float(config.embed_dim);
    let patch = float(config.num_channels) * float(patch_height) * float(patch_width);
    // qkv, proj, fc1 and fc2 have 3, 1, 4 and 4 times D x D; then q kᵀ and its product with v.
    let block = 12.0 * tokens * dim * dim + 2.0 * tokens * tokens * dim;
    // k and v of the probe, its one query, and the classes.
    let probe = 2.0 * tokens * dim * dim + 2.0 * tokens * dim + float(config.num_classes) * dim;
    2.0 * (tokens * dim * patch + float(blocks) * block + probe)
}

/// A pass over pictures, whose memory is to be counted.
pub(crate) struct Pass {
    pub batch: usize,
    /// Height and width of a picture.
    pub size: [usize; 2],
    /// How many outputs of blocks are kept.
    pub kept: usize,
    /// Whether it has the mask of pre-training.
    pub is_masked: bool,
}

/// What a pass takes, in bytes.
struct Bytes {
    /// Of all that is there at once. An estimate from below: what grows with the pictures, as often as it is there at the
    /// same time.
    total: u64,
    /// Of the largest tensor alone.
    largest: u64,
    /// Of what is between the layers of a block.
    between: u64,
}

impl Pass {
    /// Over pictures of the size that the model was trained on.
    pub const fn over(batch: usize, config: &Config) -> Self {
        Self {
            batch,
            size: config.img_size,
            kept: 0,
            is_masked: false,
        }
    }

    fn bytes<B: AimBackend>(&self, config: &Config) -> Result<Bytes> {
        let [height, width] = self.size;
        let [rows, columns] = config.grid(height, width)?;
        let floats = |sides: &[usize]| {
            sides
                .iter()
                .fold(4_u64, |bytes, &side| bytes.saturating_mul(side as u64))
        };
        let (batch, dim, heads) = (self.batch, config.embed_dim, config.num_heads);
        let pictures = floats(&[batch, config.num_channels, height, width]);
        let position = floats(&[rows, columns, dim]);
        // The stream before and after a block, and the sum that the probe reads.
        let streams = floats(&[batch, rows, columns, dim, self.kept.saturating_add(3)]);
        // Queries, keys, values and what attention makes of them; or the hidden layer.
        let between = floats(&[batch, rows, columns, dim, 4]);
        let scores = if B::ATTENDS_IN_PARTS && !self.is_masked {
            0
        } else {
            floats(&[batch, heads, rows, columns, rows, columns])
        };
        Ok(Bytes {
            total: [pictures, position, streams, between, scores]
                .into_iter()
                .fold(0, u64::saturating_add),
            largest: pictures.max(between).max(scores),
            between,
        })
    }

    /// Why it does not fit into `headroom`, `None` if it does.
    fn obstacle<B: AimBackend>(
        &self,
        config: &Config,
        headroom: Headroom,
        device: &B::Device,
    ) -> Result<Option<Obstacle>> {
        let bytes = self.bytes::<B>(config)?;
        if B::check_size(bytes.largest, device).is_err() {
            return Ok(Some(Obstacle::Buffer(bytes.largest)));
        }
        let total = bytes.total;
        Ok(headroom
            .limit::<B>(&bytes)
            .filter(|limit| total > *limit)
            .map(|limit| Obstacle::Memory { total, limit }))
    }

    /// The most pictures, up to its own batch, that fit into `headroom`; 0 if not even one does.
    pub fn largest_batch<B: AimBackend>(
        &self,
        config: &Config,
        headroom: Headroom,
        device: &B::Device,
    ) -> Result<usize> {
        // What fits `low` times does, what does not fit `high` times does not.
        let (mut low, mut high) = (0, self.batch.saturating_add(1));
        while high - low > 1 {
            // The whole first: mostly it fits.
            let batch = if high > self.batch {
                self.batch
            } else {
                low + (high - low) / 2
            };
            let some = Self { batch, ..*self };
            if some.obstacle::<B>(config, headroom, device)?.is_none() {
                low = batch;
            } else {
                high = batch;
            }
        }
        Ok(low)
    }

    /// Whether there is memory for it: an allocation that fails ends a wasm instance, and natively the process.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`] if there is not; it names the largest batch that fits.
    pub fn check<B: AimBackend>(
        &self,
        config: &Config,
        headroom: Headroom,
        device: &B::Device,
    ) -> Result<()> {
        let Some(obstacle) = self.obstacle::<B>(config, headroom, device)? else {
            return Ok(());
        };
        let batch = self.largest_batch::<B>(config, headroom, device)?;
        let advice = match batch {
            0 if self.batch == 1 => "give smaller ones".to_owned(),
            0 => "give smaller pictures: not even one of these fits".to_owned(),
            batch => format!("give smaller pictures, or fewer: up to {batch} of these fit at once"),
        };
        let what = format!(
            "the outputs of layers for {}",
            self.pictures(config.patch_size)
        );
        Err(out_of_memory(&obstacle.describe(&what), &advice))
    }

    fn pictures(&self, [patch_height, patch_width]: [usize; 2]) -> String {
        let [height, width] = self.size;
        let count = self.batch;
        let noun = if count == 1 { "picture" } else { "pictures" };
        format!(
            "{count} {noun} of {height}x{width} pixels with patches of {patch_height}x{patch_width}"
        )
    }
}

/// Why a pass does not fit.
enum Obstacle {
    /// One of its tensors, of so many bytes, is over what a buffer of the device may have.
    Buffer(u64),
    /// All that is there at once is over what may be taken.
    Memory { total: u64, limit: u64 },
}

impl Obstacle {
    fn describe(&self, what: &str) -> String {
        match self {
            Self::Buffer(bytes) => format!(
                "{what} need a tensor of {bytes} bytes, over what a buffer of this device may have"
            ),
            Self::Memory { total, limit } => {
                format!("{what} need {total} bytes at once, and {limit} may be used")
            }
        }
    }
}

fn out_of_memory(obstacle: &str, advice: &str) -> Error {
    Error::new(
        ErrorKind::OutOfMemory,
        format!("out of memory: {obstacle}: {advice}"),
    )
}

/// What passes may take beside the weights of a model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Headroom {
    /// The bytes that a device had when it was opened, less those of the weights; `None` where nothing says it.
    left: Option<u64>,
    /// [`AimBackend::kept_bytes`] of the device.
    kept: fn(u64) -> u64,
}

/// A pass that takes less is not worth asking the system.
const LITTLE: u64 = 1 << 28;

impl Headroom {
    /// Beside weights of so many bytes on a device that had `memory`.
    pub const fn beside<B: AimBackend>(weights: u64, memory: Option<u64>) -> Self {
        let left = match memory {
            Some(memory) => Some(memory.saturating_sub(weights)),
            None => None,
        };
        Self {
            left,
            kept: B::kept_bytes,
        }
    }

    /// The limit for a pass: what the device has left, else the budget of its kind, else what the machine has left; and what
    /// is not left because earlier passes keep it for this one.
    fn limit<B: AimBackend>(self, bytes: &Bytes) -> Option<u64> {
        let left = match (self.left, B::WEIGHTS.budget) {
            // What is kept is of no use to weights that don't fit.
            (Some(0), _) => return Some(0),
            (Some(left), _) => left,
            (None, None) if bytes.total > LITTLE => memory::available()?,
            (None, budget) => return budget,
        };
        Some(left.saturating_add((self.kept)(bytes.between)))
    }
}

/// The most pictures of the trained size, up to `wanted`, that a model which is not loaded yet would take at once; `memory` is
/// what its device has, where something says it.
///
/// # Errors
/// [`ErrorKind::OutOfMemory`] if not even one fits: it names the first dtype in which the weights and one picture do. Those of
/// [`WeightFormat::of`].
pub(crate) fn largest_batch<B: AimBackend>(
    config: &Config,
    blocks: usize,
    precision: Precision,
    device: &B::Device,
    memory: Option<u64>,
    wanted: usize,
) -> Result<usize> {
    let form = WeightFormat::of(precision, config, blocks, B::WEIGHTS)?;
    let memory = match B::WEIGHTS.budget {
        // The processor's, where weights take of the same.
        None => memory::available(),
        // Where there is a budget and nothing else is known, `auto` keeps to it, and who asks for more has said so.
        Some(_) => memory,
    };
    let batch_of = |form: WeightFormat, wanted: usize| {
        let headroom = Headroom::beside::<B>(form.weight_bytes(config, blocks), memory);
        Pass::over(wanted, config).largest_batch::<B>(config, headroom, device)
    };
    let batch = batch_of(form, wanted.max(1))?;
    if batch > 0 {
        return Ok(batch);
    }

    let one = Pass::over(1, config);
    let whole = Headroom::beside::<B>(0, memory);
    // Without the weights it is a matter of the picture alone.
    one.check::<B>(config, whole, device)?;
    let weights = form.weight_bytes(config, blocks);
    let obstacle = Obstacle::Memory {
        total: weights.saturating_add(one.bytes::<B>(config)?.total),
        limit: memory.unwrap_or_default(),
    }
    .describe(&format!(
        "the model's weights in {} and one picture",
        form.precision()
    ));
    let smaller = [Precision::Fp16, Precision::Q8, Precision::Q4]
        .into_iter()
        .filter_map(|precision| {
            let other = WeightFormat::of(precision, config, blocks, B::WEIGHTS).ok()?;
            (other.weight_bytes(config, blocks) < weights).then_some(other)
        });
    for form in smaller {
        if batch_of(form, 1)? > 0 {
            let dtype = form.precision();
            return Err(out_of_memory(&obstacle, &format!("in {dtype} they fit")));
        }
    }
    Err(out_of_memory(
        &obstacle,
        "not even q4 fits: take a smaller model, or a machine with more memory",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Family;

    #[test]
    fn operations_are_those_of_the_paper_s_sizes() {
        // The 600M's trunk has 0.68e9 weights in 24 blocks, each used by 256 tokens, and attention.
        let config = Family::Aim600M.config();
        let all = flops(&config, 24) / 2e9;
        let weights = 24.0 * 12.0 * 1536.0 * 1536.0 * 256.0 / 1e9;
        assert!(all > weights && all < 1.05 * weights, "{all} {weights}");
        // What a block adds.
        let block = flops(&config, 20) - flops(&config, 19);
        let expected = 2.0 * (12.0 * 256.0 * 1536.0 * 1536.0 + 2.0 * 256.0 * 256.0 * 1536.0);
        assert!((block / expected - 1.0).abs() < 1e-9);
    }

    #[cfg(feature = "cpu")]
    mod on_the_cpu {
        use super::*;
        use crate::device::cpu::{Cpu, device};

        /// Bytes of a pass over so many pictures.
        fn total(batch: usize, config: &Config) -> u64 {
            Pass::over(batch, config)
                .bytes::<Cpu>(config)
                .unwrap()
                .total
        }

        /// So many bytes, and nothing kept by tests that run beside this one.
        fn left_of(left: u64) -> Headroom {
            Headroom {
                left: Some(left),
                kept: |_| 0,
            }
        }

        #[test]
        fn a_batch_that_fits_once_fits_again() {
            const KEPT: u64 = 100 << 20;
            let config = Family::Aim600M.config();
            let pass = Pass::over(12, &config);
            let bytes = pass.bytes::<Cpu>(&config).unwrap();
            assert!(bytes.between < KEPT && bytes.total > bytes.between);
            let check = |left| {
                let headroom = Headroom {
                    kept: |between| between.min(KEPT),
                    ..left_of(left)
                };
                pass.check::<Cpu>(&config, headroom, &device())
            };
            // It has left its buffers behind, and they are taken from what there was.
            check(bytes.total - bytes.between).unwrap();
            check(bytes.total - bytes.between - 1).unwrap_err();
            // Buffers of another model make no room for weights.
            check(0).unwrap_err();
            assert_eq!(
                Headroom::beside::<Cpu>(2, Some(1)).limit::<Cpu>(&bytes),
                Some(0)
            );
        }

        #[test]
        fn the_largest_batch_is_the_last_that_fits() {
            let config = Family::Aim600M.config();
            let largest = |wanted: usize, left: u64| {
                let headroom = left_of(left);
                Pass::over(wanted, &config)
                    .largest_batch::<Cpu>(&config, headroom, &device())
                    .unwrap()
            };
            for fits in [1, 2, 7, 31, 32] {
                let headroom = total(fits, &config);
                assert_eq!(largest(32, headroom), fits);
                assert_eq!(largest(32, headroom - 1), fits - 1);
                assert_eq!(largest(1, headroom), 1);
            }
            assert_eq!(largest(usize::MAX - 1, total(5, &config)), 5);
        }

        #[test]
        fn a_batch_that_does_not_fit_names_the_one_that_does() {
            let config = Family::Aim600M.config();
            let headroom = left_of(total(12, &config));
            let check =
                |batch| Pass::over(batch, &config).check::<Cpu>(&config, headroom, &device());
            check(12).unwrap();
            let error = check(32).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::OutOfMemory);
            let message = error.to_string();
            assert!(message.contains("32 pictures"), "{message}");
            assert!(message.contains("up to 12 of these fit"), "{message}");
            let none = left_of(1);
            let error = Pass::over(2, &config)
                .check::<Cpu>(&config, none, &device())
                .unwrap_err();
            assert!(error.to_string().contains("not even one"), "{error}");
        }
    }

    #[cfg(feature = "gpu")]
    mod on_a_gpu {
        use super::*;
        use crate::device::gpu::Gpu;

        #[test]
        fn weights_count_and_the_dtype_that_fits_is_named() {
            let config = Family::Aim7B.config();
            let blocks = config.blocks_to_run();
            let Ok(gpu) =
                pollster::block_on(crate::device::gpu::open(crate::device::gpu::Adapters::Any))
            else {
                // Where there is no driver, other tests say so.
                return;
            };
            let device = &gpu.device;
            let batch = |precision, gib: u64| {
                let memory = Some(gib << 30);
                largest_batch::<Gpu>(&config, blocks, precision, device, memory, 1)
            };
            assert_eq!(batch(Precision::Q4, 4).unwrap(), 1);
            let message = batch(Precision::Fp32, 4).unwrap_err().to_string();
            assert!(
                message.contains("fp32") && message.contains("in q4 they fit"),
                "{message}"
            );
            let message = batch(Precision::Fp16, 6).unwrap_err().to_string();
            assert!(message.contains("in q8 they fit"), "{message}");
            let message = batch(Precision::Q8, 1).unwrap_err().to_string();
            assert!(message.contains("not even q4 fits"), "{message}");
        }
    }
}
