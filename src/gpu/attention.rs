//! Attention that never writes its scores to memory: for some queries of a head it walks along the keys and
//! keeps a running maximum, a running sum and a running output.
//!
//! Source: *`FlashAttention`*, Dao et al., 2022.

use cubecl::prelude::*;

use super::linear::{F4, four_of, place_of};

/// Queries of a cube, and keys of a step.
pub(crate) const SIDE: usize = 32;

/// Units along each side of a cube; each has four queries, and four keys or four channels.
pub(crate) const UNITS: u32 = 8;

/// The most channels of a head: a unit keeps an eighth of them in registers, for four queries.
pub(crate) const MOST_CHANNELS: usize = 256;

/// Channels that are in shared memory at a time.
const STEP: usize = 32;

/// `softmax(q kᵀ / sqrt(head_dim)) v` of every head.
///
/// A cube has [`SIDE`] queries of a head: the cubes of x are the blocks of queries, those of y the heads,
/// those of z the pictures.
///
/// # Shapes
/// - `qkv`: `[batch, tokens, 3, heads, head_dim]`, `head_dim` a multiple of 4
/// - `y`: `[batch, tokens, heads, head_dim]`
#[cube(launch)]
pub(crate) fn attention(
    qkv: &Array<F4>,
    y: &mut Array<F4>,
    tokens: u32,
    first_picture: u32,
    scale: f32,
    #[comptime] head_dim: usize,
) {
    let mut q_tile = SharedMemory::<F4>::new(comptime!(STEP * SIDE / 4));
    // Of keys, then of values.
    let mut kv_tile = SharedMemory::<F4>::new(comptime!(STEP * SIDE / 4));
    let mut p_tile = SharedMemory::<F4>::new(comptime!(SIDE * SIDE / 4));
    let mut parts = SharedMemory::<F4>::new(comptime!(SIDE / 4 * UNITS as usize));

    let tokens = tokens as usize;
    let column = UNIT_POS_X as usize;
    let row = UNIT_POS_Y as usize;
    let unit = UNIT_POS as usize;
    let fours = comptime!(SIDE / 4);
    let units = comptime!(UNITS as usize);
    let vectors = comptime!(head_dim / 4);
    let chunks = comptime!(head_dim.div_ceil(STEP));
    let chunk_vectors = comptime!(STEP / 4);

    // In vectors: of a head, of a token, and from queries to keys.
    let heads = CUBE_COUNT_Y as usize;
    let width = heads * vectors;
    let picture = (first_picture + CUBE_POS_Z) as usize;
    let first_query = CUBE_POS_X as usize * SIDE;
    let own_head = CUBE_POS_Y as usize * vectors;
    let base = picture * tokens * 3 * width + own_head;

    // A unit's place in what is brought to shared memory: a vector of a token.
    let place = unit % chunk_vectors;
    let four = unit / chunk_vectors;

    let mut out = Array::<F4>::new(comptime!(4 * head_dim.div_ceil(STEP)));
    #[unroll]
    for i in 0..comptime!(4 * head_dim.div_ceil(STEP)) {
        out[i] = F4::new(0.0);
    }
    // Of the four queries of this unit.
    let mut maximum = F4::new(-3.0e38);
    let mut sum = F4::new(0.0);

    let steps = (tokens + SIDE - 1) / SIDE;
    for step in 0..steps {
        let first_key = step * SIDE;
        // [key]: a query a lane.
        let mut scores = Array::<F4>::new(4usize);
        #[unroll]
        for k in 0..4usize {
            scores[k] = F4::new(0.0);
        }
        #[unroll]
        for chunk in 0..chunks {
            let vector = chunk * chunk_vectors + place;
            load_turned(
                qkv,
                &mut q_tile,
                base + vector,
                first_query,
                tokens,
                width,
                vector < vectors,
                place,
                four,
            );
            load_turned(
                qkv,
                &mut kv_tile,
                base + width + vector,
                first_key,
                tokens,
                width,
                vector < vectors,
                place,
                four,
            );
            sync_cube();
            for c in 0..STEP {
                let q = q_tile[place_of(c, row, fours)];
                let k = kv_tile[place_of(c, column, fours)];
                #[unroll]
                for i in 0..4usize {
                    scores[i] = fma(F4::new(k[i]), q, scores[i]);
                }
            }
            sync_cube();
        }

        let mut highest = maximum;
        #[unroll]
        for i in 0..4usize {
            if first_key + column * 4 + i < tokens {
                scores[i] *= F4::new(scale);
            } else {
                scores[i] = F4::new(-3.0e38);
            }
            highest = max(highest, scores[i]);
        }
        parts[row * units + column] = highest;
        sync_cube();
        #[unroll]
        for i in 0..units {
            highest = max(highest, parts[row * units + i]);
        }
        sync_cube();

        let mut part = F4::new(0.0);
        #[unroll]
        for i in 0..4usize {
            let p = F4::exp(scores[i] - highest);
            part += p;
            p_tile[place_of(column * 4 + i, row, fours)] = p;
        }
        parts[row * units + column] = part;
        let kept = F4::exp(maximum - highest);
        maximum = highest;
        sync_cube();
        sum *= kept;
        #[unroll]
        for i in 0..units {
            sum += parts[row * units + i];
        }
        #[unroll]
        for i in 0..comptime!(4 * head_dim.div_ceil(STEP)) {
            out[i] *= F4::new(kept[i % 4]);
        }

        #[unroll]
        for chunk in 0..chunks {
            let vector = chunk * chunk_vectors + place;
            #[unroll]
            for r in 0..4usize {
                let key = four * 4 + r;
                let mut value = F4::new(0.0);
                if first_key + key < tokens && vector < vectors {
                    value = qkv[base + 2 * width + (first_key + key) * 3 * width + vector];
                }
                kv_tile[key * chunk_vectors + place] = value;
            }
            sync_cube();
            for key in 0..SIDE {
                let p = p_tile[place_of(key, row, fours)];
                let v = kv_tile[key * chunk_vectors + column];
                #[unroll]
                for r in 0..4usize {
                    let at = comptime!(4 * chunk + r);
                    out[at] = fma(F4::new(p[r]), v, out[at]);
                }
            }
            sync_cube();
        }
    }

    #[unroll]
    for r in 0..4usize {
        let query = first_query + row * 4 + r;
        let share = F4::new(1.0 / sum[r]);
        #[unroll]
        for chunk in 0..chunks {
            let vector = chunk * chunk_vectors + column;
            if query < tokens && vector < vectors {
                y[(picture * tokens + query) * width + own_head + vector] =
                    out[comptime!(4 * chunk + r)] * share;
            }
        }
    }
}

/// Brings four tokens' vector to shared memory, turned: a token a lane.
#[cube]
fn load_turned(
    qkv: &Array<F4>,
    tile: &mut SharedMemory<F4>,
    base: usize,
    first: usize,
    tokens: usize,
    width: usize,
    is_channel: bool,
    place: usize,
    four: usize,
) {
    let mut rows = Array::<F4>::new(4usize);
    #[unroll]
    for r in 0..4usize {
        let token = first + four * 4 + r;
        let mut value = F4::new(0.0);
        if token < tokens && is_channel {
            value = qkv[base + token * 3 * width];
        }
        rows[r] = value;
    }
    #[unroll]
    for k in 0..4usize {
        tile[place_of(place * 4 + k, four, comptime!(SIDE / 4))] =
            four_of(rows[0][k], rows[1][k], rows[2][k], rows[3][k]);
    }
}
