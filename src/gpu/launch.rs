//! Which kernel with which tiles: from a short list, by the shapes of a product and the kind of the adapter.

use super::linear::Tile;

/// 16 KiB of shared memory, as all of these, which every device has.
const SMALL: Tile = Tile {
    rows: 64,
    columns: 64,
    step: 32,
    halves: false,
};

/// For many rows: half the reads of memory, a quarter of the cubes.
pub(crate) const LARGE: Tile = Tile {
    rows: 128,
    columns: 128,
    step: 16,
    halves: false,
};

/// Fewer rows than this don't fill a tile: each output has units of its own.
const FEW_ROWS: usize = 5;

/// As many cubes as keep a large GPU busy.
const ENOUGH_CUBES: usize = 256;

/// The fewest steps that are worth a part of a sum.
const STEPS_A_PART: usize = 8;

/// From so many rows on, packed matrices are unpacked as a whole: reading and writing one then takes less than a tenth of
/// its product.
pub(crate) const MANY_ROWS: usize = 2048;

/// What a device has, as far as the choice looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most units of a cube.
    pub units: u32,
    /// Bytes of shared memory of a cube.
    pub shared: usize,
    /// Whether the adapter computes on the CPU: then cubes run one after the other.
    pub is_software: bool,
    /// Whether its kernels may use f16.
    pub halves: bool,
    /// Whether it multiplies small matrices of f16 as a whole, with sums in f32.
    pub matrices: bool,
}

impl Limits {
    /// What every device has.
    pub const LEAST: Self = Self {
        units: 256,
        shared: 16 << 10,
        is_software: false,
        halves: false,
        matrices: false,
    };

    /// Whether a tile fits, and is worth it: the cubes of a CPU share its caches anyway.
    const fn has_room(self, tile: Tile) -> bool {
        let (x, y) = tile.units();
        x * y <= self.units && tile.shared() <= self.shared && (!self.is_software || x * y <= 64)
    }

    /// The tile for weights of so many bits. What has 16 bits or fewer loses nothing that counts in shared memory of f16, which
    /// holds twice as much.
    const fn tile(self, tile: Tile, bits: u32) -> Tile {
        if !self.halves || bits > 16 {
            return tile;
        }
        let wide = if tile.step < 32 { 2 } else { 1 };
        Tile {
            step: wide * tile.step,
            halves: true,
            ..tile
        }
    }
}

/// How a product is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// By [`rows`](super::rows::rows).
    Rows,
    /// By [`linear`](super::linear::linear), the sums in so many parts.
    Tiles(Tile, usize),
}

/// What a device's products with matrices are computed by, in words.
pub(crate) fn words(limits: Limits) -> String {
    let fits = |tile: &&Tile| limits.has_room(**tile);
    let all: Vec<String> = [SMALL, LARGE]
        .iter()
        .filter(fits)
        .map(|tile| format!("{} x {}", tile.rows, tile.columns))
        .collect();
    let tiles = format!("tiles of {}", all.join(" and "));
    let halves = if limits.halves {
        ", weights of 16 bits or fewer in f16"
    } else {
        ""
    };
    let matrices = if limits.matrices {
        format!("; from {MANY_ROWS} rows on products of small matrices by the device")
    } else {
        String::new()
    };
    format!("{tiles}{halves}{matrices}")
}

/// Whether such a product is for the device's products of small matrices, from a matrix of f16.
pub(crate) const fn takes_matrices(
    n: usize,
    d_output: usize,
    d_input: usize,
    bits: u32,
    limits: Limits,
) -> bool {
    limits.matrices
        && n >= MANY_ROWS
        && bits <= 16
        && d_input.is_multiple_of(8)
        && d_output.is_multiple_of(8)
}

/// The plan of every other product: of `[n, d_input]` and `[d_output, d_input]` of so many bits.
pub(crate) fn plan(n: usize, d_output: usize, d_input: usize, bits: u32, limits: Limits) -> Plan {
    if n < FEW_ROWS || !d_input.is_multiple_of(4) || !d_output.is_multiple_of(4) {
        return Plan::Rows;
    }
    let cubes = |tile: Tile| n.div_ceil(tile.rows) * d_output.div_ceil(tile.columns);
    if limits.has_room(LARGE) && cubes(LARGE) >= ENOUGH_CUBES {
        return Plan::Tiles(limits.tile(LARGE, bits), 1);
    }
    let small = limits.tile(SMALL, bits);
    if limits.is_software {
        return Plan::Tiles(small, 1);
    }
    let wanted = ENOUGH_CUBES.div_ceil(cubes(SMALL));
    let most = (d_input.div_ceil(SMALL.step) / STEPS_A_PART).max(1);
    Plan::Tiles(small, wanted.min(most).min(4))
}

/// Shapes of products, `[n, d_output, d_input]`, that between them take each way that a device has: to try it with. All have
/// tiles that are not full, and two groups of the largest size or more.
pub(crate) fn shapes_of_plans(limits: Limits) -> Vec<[usize; 3]> {
    let mut shapes = vec![[3, 136, 256], [133, 136, 256]];
    if !limits.is_software {
        // A sum in parts.
        shapes.push([133, 136, 768]);
    }
    // A page takes one picture at a time: only the largest model has a product for them.
    if limits.has_room(LARGE) && !cfg!(target_family = "wasm") {
        shapes.push([2041, 2056, 256]);
    }
    if limits.matrices {
        shapes.push([MANY_ROWS + 5, 136, 256]);
    }
    shapes
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE_GPU: Limits = Limits {
        units: 1024,
        shared: 48 << 10,
        ..LEAST
    };
    const LEAST: Limits = Limits {
        units: 128,
        ..Limits::LEAST
    };
    const HALVES: Limits = Limits {
        halves: true,
        ..LARGE_GPU
    };

    #[test]
    fn few_rows_and_odd_lengths_have_units_of_their_own() {
        for (n, d_output, d_input) in [(1, 1000, 1536), (4, 64, 64), (256, 21, 64), (256, 64, 63)] {
            assert_eq!(plan(n, d_output, d_input, 32, LARGE_GPU), Plan::Rows);
        }
    }

    #[test]
    fn many_rows_take_large_tiles_where_the_device_has_the_units() {
        assert_eq!(plan(8192, 1536, 1536, 32, LARGE_GPU), Plan::Tiles(LARGE, 1));
        assert_eq!(plan(8192, 1536, 1536, 32, LEAST), Plan::Tiles(SMALL, 1));
    }

    #[test]
    fn packed_matrices_are_tiles_of_halves_where_the_device_has_them() {
        let of_halves = |tile, step| Tile {
            step,
            halves: true,
            ..tile
        };
        for bits in [4, 8, 16] {
            assert_eq!(
                plan(8192, 1536, 1536, bits, HALVES),
                Plan::Tiles(of_halves(LARGE, 32), 1)
            );
            assert_eq!(
                plan(256, 1536, 1536, bits, HALVES),
                Plan::Tiles(of_halves(SMALL, 32), 3)
            );
        }
        assert_eq!(plan(8192, 1536, 1536, 32, HALVES), Plan::Tiles(LARGE, 1));
    }

    #[test]
    fn large_batches_take_the_products_of_the_device() {
        let limits = Limits {
            matrices: true,
            ..HALVES
        };
        for bits in [4, 8, 16] {
            assert!(takes_matrices(2048, 1536, 1536, bits, limits));
            assert!(!takes_matrices(256, 1536, 1536, bits, limits));
            assert!(!takes_matrices(2048, 1536, 1540, bits, limits));
            assert!(!takes_matrices(2048, 1536, 1536, bits, HALVES));
        }
        // Never what is to stay in f32.
        assert!(!takes_matrices(8192, 1536, 1536, 32, limits));
    }

    #[test]
    fn sums_are_cut_where_cubes_are_few() {
        // `proj` of the 600M: 96 cubes.
        assert_eq!(plan(256, 1536, 1536, 32, LARGE_GPU), Plan::Tiles(SMALL, 3));
        assert_eq!(plan(256, 1536, 64, 32, LARGE_GPU), Plan::Tiles(SMALL, 1));
        let software = Limits {
            is_software: true,
            ..LARGE_GPU
        };
        assert_eq!(plan(256, 1536, 1536, 32, software), Plan::Tiles(SMALL, 1));
    }

    #[test]
    fn each_way_of_a_device_is_tried() {
        let plans = |limits| -> Vec<Plan> {
            let shapes = shapes_of_plans(limits).into_iter();
            shapes
                .map(|[n, d_output, d_input]| plan(n, d_output, d_input, 32, limits))
                .collect()
        };
        let small = |parts| Plan::Tiles(SMALL, parts);
        let software = Limits {
            is_software: true,
            ..LARGE_GPU
        };
        assert_eq!(plans(software), [Plan::Rows, small(1)]);
        assert_eq!(plans(LEAST), [Plan::Rows, small(1), small(3)]);
        assert_eq!(
            plans(LARGE_GPU),
            [Plan::Rows, small(1), small(3), Plan::Tiles(LARGE, 1)]
        );
        let matrices = Limits {
            matrices: true,
            ..HALVES
        };
        let taken =
            |[n, d_output, d_input]: [usize; 3]| takes_matrices(n, d_output, d_input, 16, matrices);
        let by_matrices = shapes_of_plans(matrices).into_iter().filter(|&s| taken(s));
        assert_eq!(by_matrices.count(), 1);
    }

    #[test]
    fn the_kernels_are_described() {
        assert_eq!(words(LARGE_GPU), "tiles of 64 x 64 and 128 x 128");
        assert_eq!(words(LEAST), "tiles of 64 x 64");
        let all = words(Limits {
            matrices: true,
            ..HALVES
        });
        assert!(
            all.contains("f16") && all.contains("from 2048 rows on"),
            "{all}"
        );
    }

    #[test]
    fn tiles_fit_the_smallest_device_and_the_smallest_group() {
        for tile in [SMALL, LARGE]
            .into_iter()
            .flat_map(|tile| [tile, HALVES.tile(tile, 8)])
        {
            assert!(
                tile.shared() <= LEAST.shared && tile.step <= 32 && tile.step.is_multiple_of(8)
            );
        }
        let (x, y) = SMALL.units();
        assert!(x * y <= LEAST.units);
    }
}
