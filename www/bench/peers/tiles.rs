//! What a register tile of 4 x 2 vectors gives in the first-level cache, without a model around it: the limit of what
//! products can take in a browser. Compiled by itself for wasm32 with relaxed SIMD; see limits.mjs.
#![no_std]

use core::arch::wasm32::*;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

const ROWS: usize = 4;
const COLUMNS: usize = 2;

/// As much of each operand as stays in the cache.
static mut MEMORY: [u8; 1 << 16] = [0; 1 << 16];

/// Where the operands lie: `1 << 16` bytes, to be filled by the caller.
#[unsafe(no_mangle)]
pub extern "C" fn memory_at() -> *mut u8 {
    &raw mut MEMORY as *mut u8
}

/// `times` products of 4 rows with 2 vectors of columns, `depth` vectors deep; the sum keeps all of them needed.
macro_rules! tile {
    ($name:ident, $product:expr) => {
        #[unsafe(no_mangle)]
        pub extern "C" fn $name(times: u32, depth: usize) -> i32 {
            assert!(depth * COLUMNS * 16 + ROWS * depth * 4 <= 1 << 16);
            // SAFETY: the bound above holds both operands within MEMORY, and nothing else runs.
            unsafe {
                let columns = memory_at() as *const v128;
                let rows = columns.add(depth * COLUMNS) as *const u32;
                let mut total = i32x4_splat(0);
                for _ in 0..times {
                    let mut sums = [[i32x4_splat(0); COLUMNS]; ROWS];
                    for k in 0..depth {
                        let vectors: [v128; COLUMNS] = core::array::from_fn(|c| v128_load(columns.add(k * COLUMNS + c)));
                        for r in 0..ROWS {
                            let row = v128_load32_splat(rows.add(r * depth + k));
                            for c in 0..COLUMNS {
                                sums[r][c] = $product(row, vectors[c], sums[r][c]);
                            }
                        }
                    }
                    for row in sums {
                        for sum in row {
                            total = v128_xor(total, sum);
                        }
                    }
                }
                i32x4_extract_lane::<0>(total)
            }
        }
    };
}

tile!(int8, |row, column, sum| i32x4_relaxed_dot_i8x16_i7x16_add(column, row, sum));
tile!(int16, |row, column, sum| i32x4_add(sum, i32x4_dot_i16x8(row, column)));
tile!(f32, |row, column, sum| f32x4_relaxed_madd(row, column, sum));
