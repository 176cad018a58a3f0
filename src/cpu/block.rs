//! A transformer block on the residual stream in place.
//!
//! Rows are independent but in attention, so a thread takes some rows through everything before it, and
//! through everything after it: what one layer gives is in the cache when the next one reads it, and threads
//! wait for each other three times a block.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::attention::{Head, QUERIES, Workspace, attend};
use super::epilogue::Epilogue;
use super::matrix::{Matrix, Rows};
use super::norm::Norm;
use super::threads;
use crate::error::{Error, Result};
use crate::memory;

/// The parameters of a block, named as in the checkpoint.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "named as in the checkpoint")]
pub struct Block<'a> {
    pub norm_1: Norm<'a>,
    pub qkv: &'a Matrix,
    pub proj: &'a Matrix,
    pub norm_2: Norm<'a>,
    pub fc1: &'a Matrix,
    pub fc2: &'a Matrix,
    pub num_heads: usize,
}

/// What a thread needs for its rows.
#[derive(Debug, Default)]
struct Scratch {
    rows: Rows,
    hidden: Rows,
    floats: Vec<f32>,
    attention: Workspace,
    /// Its part of [`SCRATCH_BYTES`].
    counted: u64,
}

/// The bytes of all threads' buffers.
static SCRATCH_BYTES: AtomicU64 = AtomicU64::new(0);

impl Scratch {
    /// Counts the buffers once they may have grown.
    fn count(&mut self) {
        let Self {
            rows,
            hidden,
            floats,
            attention,
            counted,
        } = self;
        let now = rows.bytes() + hidden.bytes() + memory::bytes(floats) + attention.bytes();
        SCRATCH_BYTES.fetch_add(now, Ordering::Relaxed);
        SCRATCH_BYTES.fetch_sub(*counted, Ordering::Relaxed);
        *counted = now;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        SCRATCH_BYTES.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

/// What a block needs for all rows.
#[derive(Debug, Default)]
struct Streams {
    /// `[n, 3 * dim]`
    qkv: Vec<f32>,
    /// `[pictures, heads, tokens, head_dim]`
    attended: Vec<f32>,
}

impl Streams {
    const fn bytes(&self) -> u64 {
        memory::bytes(&self.qkv) + memory::bytes(&self.attended)
    }
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

/// Those that no block uses now: not a thread's own, since the pool may run a block on any.
static STREAMS: Mutex<Vec<Streams>> = Mutex::new(Vec::new());

fn idle_streams() -> MutexGuard<'static, Vec<Streams>> {
    STREAMS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lends the thread's buffers. One that waits for others may take up another task meanwhile, which then gets
/// new ones.
fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    let mut scratch = SCRATCH.take();
    let result = work(&mut scratch);
    scratch.count();
    SCRATCH.set(scratch);
    result
}

/// Of the memory that this process has taken, the bytes that a pass takes up again which needs `between` bytes for what is
/// between the layers of a block: the buffers that passes before it left.
pub fn kept_bytes(between: u64) -> u64 {
    let streams = idle_streams().last().map_or(0, Streams::bytes);
    // What it does not need of them stays taken.
    SCRATCH_BYTES.load(Ordering::Relaxed) + streams.min(between)
}

/// Makes a buffer `len` values long. One that is too short goes first, so that the two never need room at once.
fn renew(buffer: &mut Vec<f32>, len: Option<usize>, what: &str) -> Result<()> {
    if len.is_some_and(|len| buffer.capacity() < len) {
        *buffer = Vec::new();
    }
    memory::resize(buffer, len, what)
}

impl Block<'_> {
    /// Takes the residual stream through the block.
    ///
    /// # Shapes
    /// - `x`: `[pictures * tokens, dim]`
    ///
    /// # Errors
    /// [`ErrorKind::Option`](crate::ErrorKind::Option) if the shapes don't fit each other,
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if what is between its layers has no room.
    pub fn forward(self, x: &mut [f32], tokens: usize) -> Result<()> {
        self.check(x.len(), tokens)?;
        threads::inside(|| {
            let mut streams = idle_streams().pop().unwrap_or_default();
            let result = self.run(x, tokens, &mut streams);
            idle_streams().push(streams);
            result
        })
    }

    /// Whether all shapes fit each other.
    fn check(self, len: usize, tokens: usize) -> Result<()> {
        let [dim, _] = self.proj.dims();
        let [hidden, _] = self.fc1.dims();
        let matrices = [self.qkv, self.proj, self.fc1, self.fc2].map(Matrix::dims);
        let fits = matrices == [[3 * dim, dim], [dim, dim], [hidden, dim], [dim, hidden]]
            && [self.norm_1, self.norm_2]
                .iter()
                .all(|norm| norm.weight.len() == dim && norm.bias.len() == dim)
            && self.num_heads > 0
            && dim.is_multiple_of(self.num_heads)
            && tokens > 0
            && len.is_multiple_of(tokens.saturating_mul(dim));
        if fits {
            return Ok(());
        }
        Err(Error::option(format!(
            "{len} values of {tokens} tokens a picture do not fit a block of {} heads and matrices of {matrices:?}",
            self.num_heads
        )))
    }

    fn run(self, x: &mut [f32], tokens: usize, streams: &mut Streams) -> Result<()> {
        let [dim, _] = self.proj.dims();
        let n = x.len() / dim;
        let part = threads::part(n, most_rows(dim), LEAST_ROWS);
        let len = n.checked_mul(dim);
        let qkv_len = len.and_then(|len| len.checked_mul(3));
        renew(&mut streams.qkv, qkv_len, "queries, keys and values")?;
        renew(&mut streams.attended, len, "what attention gives")?;
        let Streams { qkv, attended } = streams;

        let tasks = x.chunks(part * dim).zip(qkv.chunks_mut(part * 3 * dim));
        threads::each(tasks.collect(), |(x, qkv)| {
            with_scratch(|scratch| {
                let rows = &mut scratch.rows;
                rows.make(x.len() / dim, self.qkv, |row, to| {
                    self.norm_1.row(row_of(x, row, dim), to);
                })?;
                self.qkv.product(rows, qkv, Epilogue::None)
            })
        })?;

        let head_dim = dim / self.num_heads;
        attention(qkv, attended, [tokens, self.num_heads, head_dim]);

        let tasks = x.chunks_mut(part * dim).enumerate();
        threads::each(tasks.collect(), |(at, x)| {
            with_scratch(|scratch| {
                let n = x.len() / dim;
                let Scratch {
                    rows,
                    hidden,
                    floats,
                    ..
                } = scratch;
                rows.make(n, self.proj, |row, to| {
                    let (picture, token) = ((at * part + row) / tokens, (at * part + row) % tokens);
                    for (head, to) in to.chunks_exact_mut(head_dim).enumerate() {
                        let from = (picture * self.num_heads + head) * tokens + token;
                        for (to, from) in to.iter_mut().zip(row_of(attended, from, head_dim)) {
                            *to = *from;
                        }
                    }
                })?;
                self.proj.product(rows, x, Epilogue::Add)?;
                rows.make(n, self.fc1, |row, to| {
                    self.norm_2.row(row_of(x, row, dim), to);
                })?;
                hidden.make_gelu(n, self.fc2, (self.fc1, rows), floats)?;
                self.fc2.product(hidden, x, Epilogue::Add)
            })
        })
    }
}

/// Rows that one thread takes at a time, if there are so many: below, too little is done with a weight once it
/// is in the cache.
const LEAST_ROWS: usize = 16;

/// The most: what is between two layers should stay in the second cache, unless the weights are far larger,
/// which are then better read once.
const fn most_rows(dim: usize) -> usize {
    if dim <= 768 { 128 } else { 256 }
}

/// Attention of all heads of all pictures.
///
/// # Shapes
/// - `qkv`: `[pictures * tokens, 3 * heads * head_dim]`
/// - `attended`: `[pictures, heads, tokens, head_dim]`, overwritten
fn attention(qkv: &[f32], attended: &mut [f32], [tokens, num_heads, head_dim]: [usize; 3]) {
    let dim = num_heads * head_dim;
    let heads = attended.len() / (tokens * head_dim).max(1);
    // Heads that don't come out even are cut, at the price of laying out their keys twice.
    let pieces = if heads.is_multiple_of(threads::count()) {
        1
    } else {
        threads::count()
    };
    let queries = tokens.div_ceil(pieces).next_multiple_of(QUERIES);
    let mut tasks = Vec::new();
    for (head, out) in attended.chunks_mut(tokens * head_dim).enumerate() {
        let picture = row_of(qkv, head / num_heads, tokens * 3 * dim);
        for (piece, out) in out.chunks_mut(queries * head_dim).enumerate() {
            let head = Head {
                qkv: picture,
                dim,
                head: head % num_heads,
                head_dim,
            };
            tasks.push((head, piece * queries, out));
        }
    }
    let _ = threads::each(tasks, |(head, first, out)| {
        with_scratch(|scratch| attend(head, first, &mut scratch.attention, out));
        Ok(())
    });
}

/// Row `at` of a matrix of `columns`.
fn row_of(values: &[f32], at: usize, columns: usize) -> &[f32] {
    values
        .get(at * columns..(at + 1) * columns)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::float::FloatMatrix;
    use super::*;

    #[test]
    fn what_a_pass_leaves_is_kept_for_the_next() {
        let (dim, tokens) = (16, 1 << 14);
        let [qkv, proj, fc1, fc2] = [[3 * dim, dim], [dim, dim], [4 * dim, dim], [dim, 4 * dim]]
            .map(|[d_output, d_input]| {
                Matrix::Float(FloatMatrix::zeros(d_output, d_input).unwrap())
            });
        let ones = vec![1.0; dim];
        let norm = Norm {
            weight: &ones,
            bias: &ones,
            epsilon: 1e-6,
        };
        let block = Block {
            norm_1: norm,
            qkv: &qkv,
            proj: &proj,
            norm_2: norm,
            fc1: &fc1,
            fc2: &fc2,
            num_heads: 1,
        };
        // One token a picture: attention is no work.
        let mut x = vec![0.5; tokens * dim];
        let between = (4 * tokens * dim * size_of::<f32>()) as u64;
        let is_kept = (0..100).any(|_| {
            block.forward(&mut x, 1).unwrap();
            // Other tests may have the buffers just now, or leave smaller ones.
            let [scratch, half, all, more] = [0, between / 2, between, 2 * between].map(kept_bytes);
            let hidden = (LEAST_ROWS * 4 * dim * size_of::<f32>()) as u64;
            scratch >= hidden
                && half == scratch + between / 2
                && all == scratch + between
                && more == all
        });
        assert!(is_kept);
    }

    #[test]
    fn a_buffer_that_is_too_short_goes_before_the_next_comes() {
        let mut buffer = Vec::new();
        renew(&mut buffer, Some(1000), "numbers").unwrap();
        let place = buffer.as_ptr();
        renew(&mut buffer, Some(10), "numbers").unwrap();
        renew(&mut buffer, Some(1000), "numbers").unwrap();
        assert_eq!((buffer.as_ptr(), buffer.len()), (place, 1000));
        renew(&mut buffer, Some(1001), "numbers").unwrap();
        // Grown, it would have room for twice as many.
        assert!(buffer.capacity() < 2000);
        renew(&mut buffer, None, "numbers").unwrap_err();
    }
}
