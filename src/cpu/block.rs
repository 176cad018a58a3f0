//! A transformer block on the residual stream in place.
//!
//! Rows are independent but in attention, so a thread takes some rows through everything before it, and
//! through everything after it: what one layer gives is in the cache when the next one reads it, and threads
//! wait for each other three times a block.

use std::cell::Cell;
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
}

/// What a block needs for all rows.
#[derive(Debug, Default)]
struct Streams {
    /// `[n, 3 * dim]`
    qkv: Vec<f32>,
    /// `[pictures, heads, tokens, head_dim]`
    attended: Vec<f32>,
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
    SCRATCH.set(scratch);
    result
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
        memory::resize(&mut streams.qkv, qkv_len, "queries, keys and values")?;
        memory::resize(&mut streams.attended, len, "what attention gives")?;
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
