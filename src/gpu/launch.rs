//! Which kernel with which tiles: from a short list, by the shapes of a product and the kind of the adapter.

use super::linear::Tile;

/// 16 KiB of shared memory, as all of these, which every device has.
const SMALL: Tile = Tile {
    rows: 64,
    columns: 64,
    step: 32,
};

/// For many rows: half the reads of memory, a quarter of the cubes.
const LARGE: Tile = Tile {
    rows: 128,
    columns: 128,
    step: 16,
};

/// Fewer rows than this don't fill a tile: each output has units of its own.
const FEW_ROWS: usize = 5;

/// As many cubes as keep a large GPU busy.
const ENOUGH_CUBES: usize = 256;

/// The fewest steps that are worth a part of a sum.
const STEPS_A_PART: usize = 8;

/// What the choice looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The most units of a cube.
    pub units: u32,
    /// Bytes of shared memory of a cube.
    pub shared: usize,
    /// Whether the adapter computes on the CPU: then cubes run one after the other.
    pub is_software: bool,
}

impl Limits {
    /// Whether a tile fits, and is worth it: the cubes of a CPU share its caches anyway.
    const fn has_room(self, tile: Tile) -> bool {
        let (x, y) = tile.units();
        x * y <= self.units && tile.shared() <= self.shared && (!self.is_software || x * y <= 64)
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

/// The tiles that a device takes, in words.
pub(crate) fn tiles(limits: Limits) -> String {
    let fits = |tile: &&Tile| limits.has_room(**tile);
    let all: Vec<String> = [SMALL, LARGE]
        .iter()
        .filter(fits)
        .map(|tile| format!("{} x {}", tile.rows, tile.columns))
        .collect();
    format!("tiles of {}", all.join(" and "))
}

/// The plan of a product of `[n, d_input]` and `[d_output, d_input]`.
pub(crate) fn plan(n: usize, d_output: usize, d_input: usize, limits: Limits) -> Plan {
    if n < FEW_ROWS || !d_input.is_multiple_of(4) || !d_output.is_multiple_of(4) {
        return Plan::Rows;
    }
    let cubes = |tile: Tile| n.div_ceil(tile.rows) * d_output.div_ceil(tile.columns);
    if limits.has_room(LARGE) && cubes(LARGE) >= ENOUGH_CUBES {
        return Plan::Tiles(LARGE, 1);
    }
    if limits.is_software {
        return Plan::Tiles(SMALL, 1);
    }
    let wanted = ENOUGH_CUBES.div_ceil(cubes(SMALL));
    let most = (d_input.div_ceil(SMALL.step) / STEPS_A_PART).max(1);
    Plan::Tiles(SMALL, wanted.min(most).min(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE_GPU: Limits = Limits {
        units: 1024,
        shared: 48 << 10,
        is_software: false,
    };
    const LEAST: Limits = Limits {
        units: 128,
        shared: 16 << 10,
        is_software: false,
    };

    #[test]
    fn few_rows_and_odd_lengths_have_units_of_their_own() {
        for (n, d_output, d_input) in [(1, 1000, 1536), (4, 64, 64), (256, 21, 64), (256, 64, 63)] {
            assert_eq!(plan(n, d_output, d_input, LARGE_GPU), Plan::Rows);
        }
    }

    #[test]
    fn many_rows_take_large_tiles_where_the_device_has_the_units() {
        assert_eq!(plan(8192, 1536, 1536, LARGE_GPU), Plan::Tiles(LARGE, 1));
        assert_eq!(plan(8192, 1536, 1536, LEAST), Plan::Tiles(SMALL, 1));
    }

    #[test]
    fn sums_are_cut_where_cubes_are_few() {
        // `proj` of the 600M: 96 cubes.
        assert_eq!(plan(256, 1536, 1536, LARGE_GPU), Plan::Tiles(SMALL, 3));
        assert_eq!(plan(256, 1536, 64, LARGE_GPU), Plan::Tiles(SMALL, 1));
        let software = Limits {
            is_software: true,
            ..LARGE_GPU
        };
        assert_eq!(plan(256, 1536, 1536, software), Plan::Tiles(SMALL, 1));
    }

    #[test]
    fn tiles_are_told() {
        assert_eq!(tiles(LARGE_GPU), "tiles of 64 x 64 and 128 x 128");
        assert_eq!(tiles(LEAST), "tiles of 64 x 64");
    }

    #[test]
    fn tiles_fit_the_smallest_device_and_the_smallest_group() {
        for tile in [SMALL, LARGE] {
            assert!(
                tile.shared() <= LEAST.shared && tile.step <= 32 && tile.step.is_multiple_of(8)
            );
        }
        let (x, y) = SMALL.units();
        assert!(x * y <= LEAST.units);
    }
}
