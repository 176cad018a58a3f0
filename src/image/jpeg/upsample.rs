//! Planes of half the width or height to the picture's own, as libjpeg's "fancy" method does: three parts of the nearest
//! sample and one of the next but one, in its integers (`jdsample.c`).

/// A plane of samples, in rows that are `stride` apart.
pub(super) struct Plane<'a> {
    pub(super) samples: &'a [u8],
    pub(super) stride: usize,
    /// The samples that belong to the picture.
    pub(super) width: usize,
    pub(super) height: usize,
    /// How many of the picture's columns and rows a sample stands for.
    pub(super) scale: [usize; 2],
}

impl Plane<'_> {
    fn row(&self, row: usize) -> &[u8] {
        let start = row.min(self.height.saturating_sub(1)) * self.stride;
        self.samples
            .get(start..start + self.width)
            .unwrap_or_default()
    }

    /// A row of the picture, at full width: at least `out.len()` samples are meant.
    #[inline(always)]
    pub(super) fn upsampled(&self, row: usize, scratch: &mut Vec<u16>, out: &mut [u8]) {
        let [across, down] = self.scale;
        let own = row / down.max(1);
        match (across, down) {
            (1, 1) => copy(self.row(own), out),
            (2, 1) if self.width > 2 => {
                let of = |&sample: &u8| u16::from(sample);
                spread::<2, 1, 2>(self.row(own).iter().map(of), scratch, out);
            }
            (2, 2) if self.width > 2 => {
                let (near, far) = (self.row(own).iter(), self.row(Self::next(row)).iter());
                let of = |(&near, &far): (&u8, &u8)| 3 * u16::from(near) + u16::from(far);
                spread::<4, 8, 7>(near.zip(far).map(of), scratch, out);
            }
            (1, 2) => {
                // One rounds down, the other up.
                let half = if row.is_multiple_of(2) { 1 } else { 2 };
                let (near, far) = (self.row(own), self.row(Self::next(row)));
                for (out, (&near, &far)) in out.iter_mut().zip(near.iter().zip(far)) {
                    *out = ((3 * u16::from(near) + u16::from(far) + half) >> 2) as u8;
                }
            }
            _ => {
                for (out, &sample) in out.chunks_mut(across.max(1)).zip(self.row(own)) {
                    out.fill(sample);
                }
            }
        }
    }

    /// The second nearest row of samples to a row of the picture, where two share one.
    const fn next(row: usize) -> usize {
        if row.is_multiple_of(2) {
            (row / 2).saturating_sub(1)
        } else {
            row / 2 + 1
        }
    }
}

fn copy(from: &[u8], to: &mut [u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// Two columns from each: `(3 * own + neighbour + rounding) >> SHIFT`, to the left with one rounding, to the right with
/// another. What lies beyond an edge is as the edge.
#[inline(always)]
fn spread<const SHIFT: u32, const LEFT: u16, const RIGHT: u16>(
    columns: impl Iterator<Item = u16>,
    scratch: &mut Vec<u16>,
    out: &mut [u8],
) {
    scratch.clear();
    scratch.push(0);
    scratch.extend(columns);
    let last = scratch.last().copied().unwrap_or(0);
    scratch.push(last);
    if let [edge, first, ..] = scratch.as_mut_slice() {
        *edge = *first;
    }
    let (pairs, rest) = out.as_chunks_mut::<2>();
    for (pair, window) in pairs.iter_mut().zip(scratch.windows(3)) {
        if let &[left, own, right] = window {
            *pair = [
                ((3 * own + left + LEFT) >> SHIFT) as u8,
                ((3 * own + right + RIGHT) >> SHIFT) as u8,
            ];
        }
    }
    // An odd width ends with a left one.
    let at = pairs.len();
    if let ([sample], Some(&[left, own, _])) =
        (rest, scratch.get(at..).and_then(<[u16]>::first_chunk))
    {
        *sample = ((3 * own + left + LEFT) >> SHIFT) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane<const N: usize, const M: usize>(rows: &[[u8; N]; M], scale: [usize; 2]) -> Plane<'_> {
        Plane {
            samples: rows.as_flattened(),
            stride: N,
            width: N,
            height: M,
            scale,
        }
    }

    fn row(plane: &Plane<'_>, row: usize, width: usize) -> Vec<u8> {
        let mut out = vec![0; width];
        plane.upsampled(row, &mut Vec::new(), &mut out);
        out
    }

    #[test]
    fn the_nearer_sample_counts_three_times() {
        let across = plane(&[[0, 100, 200]], [2, 1]);
        assert_eq!(row(&across, 0, 6), [0, 25, 75, 125, 175, 200]);
        assert_eq!(row(&across, 0, 5), [0, 25, 75, 125, 175]);
        let down = plane(&[[0], [100]], [1, 2]);
        let rows: Vec<u8> = (0..4).map(|y| row(&down, y, 1)[0]).collect();
        assert_eq!(rows, [0, 25, 75, 100]);
        let both = plane(&[[0, 0, 0], [160, 160, 160]], [2, 2]);
        let rows: Vec<u8> = (0..4).map(|y| row(&both, y, 6)[3]).collect();
        assert_eq!(rows, [0, 40, 120, 160]);
        // Narrow ones and other scales are repeated.
        assert_eq!(row(&plane(&[[7, 9]], [2, 2]), 1, 3), [7, 7, 9]);
        assert_eq!(
            row(&plane(&[[7, 9, 11, 13]], [4, 1]), 0, 6),
            [7, 7, 7, 7, 9, 9]
        );
    }
}
