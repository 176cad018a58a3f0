//! The part of each class that is held out.

use super::random::Random;

/// Pictures, by their number, in the part that trains and in the part that says how good the result is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) training: Vec<usize>,
    pub(super) held_out: Vec<usize>,
}

impl Split {
    /// Holds out a share of each class: one picture at least, and never all.
    pub(super) fn by_class(labels: &[usize], classes: usize, share: f32, seed: u64) -> Self {
        let mut of_class = vec![Vec::new(); classes];
        for (picture, &label) in labels.iter().enumerate() {
            of_class[label].push(picture);
        }
        let mut random = Random::new(seed);
        let mut held_out = Vec::new();
        for pictures in &mut of_class {
            random.shuffle(pictures);
            let count = if share > 0.0 {
                let rounded = (share * pictures.len() as f32).round() as usize;
                rounded.max(1).min(pictures.len().saturating_sub(1))
            } else {
                0
            };
            held_out.extend_from_slice(&pictures[..count]);
        }
        held_out.sort_unstable();
        let training = (0..labels.len())
            .filter(|picture| held_out.binary_search(picture).is_err())
            .collect();
        Self { training, held_out }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_class_is_in_both_parts(
            counts in prop::collection::vec(2_usize..40, 1..6),
            share in 0.01_f32..0.99,
            seed: u64,
        ) {
            let labels: Vec<usize> = counts
                .iter()
                .enumerate()
                .flat_map(|(class, &count)| std::iter::repeat_n(class, count))
                .collect();
            let split = Split::by_class(&labels, counts.len(), share, seed);
            prop_assert_eq!(&split, &Split::by_class(&labels, counts.len(), share, seed));
            let mut all = [split.training.clone(), split.held_out.clone()].concat();
            all.sort_unstable();
            prop_assert!(all.into_iter().eq(0..labels.len()));
            for (class, &count) in counts.iter().enumerate() {
                let held = split.held_out.iter().filter(|&&p| labels[p] == class).count();
                let near = (held as f32 - share * count as f32).abs();
                prop_assert!(held > 0 && held < count && near <= 1.0, "{held} of {count} at {share}");
            }
        }
    }

    #[test]
    fn nothing_is_held_out_unasked() {
        let split = Split::by_class(&[0, 1, 0], 2, 0.0, 1);
        assert_eq!((split.training.len(), split.held_out.len()), (3, 0));
    }
}
