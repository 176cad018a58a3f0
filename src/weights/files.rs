//! What the files of a model are called, and which are looked for first.

use super::shards::index::{INDEX_FILE, TORCH_INDEX_FILE};
use crate::config::{Family, ProbeLayers};

/// A file that leads to a model's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Candidate {
    /// A list of the files that hold them.
    Index(&'static str),
    /// A checkpoint that holds them all.
    Checkpoint(&'static str),
}

impl Candidate {
    /// Those of a folder, in the order in which they are looked for: what is safe to parse first.
    pub const ALL: [Self; 5] = [
        Self::Index(INDEX_FILE),
        Self::Checkpoint("model.safetensors"),
        Self::Index(TORCH_INDEX_FILE),
        Self::Checkpoint("pytorch_model.bin"),
        Self::Checkpoint("model.pth"),
    ];

    /// The name of the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Index(name) | Self::Checkpoint(name) => name,
        }
    }

    /// Their names in a list, for messages.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

/// True for the name of a file that may be a checkpoint by itself.
pub fn is_checkpoint(name: &str) -> bool {
    [".safetensors", ".bin", ".pth", ".pt"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

/// The files that Apple published in the repository `apple/AIM`: for each model a backbone and two
/// probes, one for each choice of layers.
///
/// Source: `aim-v1/README.md` of the reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplePair {
    /// The file of the trunk.
    pub backbone: String,
    /// The file of the probe.
    pub head: String,
    /// The layers that the probe was trained on, if others were asked for.
    pub trained_on: Option<&'static str>,
}

impl ApplePair {
    /// The files of a model, with the probe that was trained on the layers asked for; for a list of
    /// one's own, that of the best ones.
    pub fn new(family: Family, layers: Option<&ProbeLayers>) -> Self {
        let stem = stem(family);
        let (head, trained_on) = match layers {
            Some(ProbeLayers::Last) => ("last", None),
            Some(ProbeLayers::List(_)) => ("best", Some("best")),
            Some(ProbeLayers::Best) | None => ("best", None),
        };
        Self {
            backbone: format!("{stem}_backbone.pth"),
            head: format!("{stem}_head_{head}_layers.pth"),
            trained_on,
        }
    }

    /// Both files.
    pub fn names(&self) -> Vec<String> {
        vec![self.backbone.clone(), self.head.clone()]
    }

    /// What a user should know who asked for layers that the probe was not trained on.
    pub fn warning(&self) -> Option<String> {
        let layers = self.trained_on?;
        Some(format!(
            "{} was trained on the {layers} layers, not on those that were asked for: expect worse scores",
            self.head
        ))
    }

    /// The models whose backbone a folder holds.
    pub fn families(has: impl Fn(&str) -> bool) -> Vec<Family> {
        let has_backbone = |family: &Family| has(&Self::new(*family, None).backbone);
        Family::ALL.into_iter().filter(has_backbone).collect()
    }
}

/// What the names of a model's files begin with.
const fn stem(family: Family) -> &'static str {
    match family {
        Family::Aim600M => "aim_600m_2bimgs_attnprobe",
        Family::Aim1B => "aim_1b_5bimgs_attnprobe",
        Family::Aim3B => "aim_3b_5bimgs_attnprobe",
        Family::Aim7B => "aim_7b_5bimgs_attnprobe",
    }
}

/// The first eight digits of the SHA-256 that Apple published for one of its files.
///
/// Source: `aim-v1/aim/v1/torch/models.py` of the reference.
pub fn published_sha256(file: &str) -> Option<&'static str> {
    Some(match file {
        "aim_600m_2bimgs_attnprobe_backbone.pth" => "0d6f6b8f",
        "aim_1b_5bimgs_attnprobe_backbone.pth" => "d254ecd3",
        "aim_3b_5bimgs_attnprobe_backbone.pth" => "8475ce4e",
        "aim_7b_5bimgs_attnprobe_backbone.pth" => "184ed94c",
        "aim_600m_2bimgs_attnprobe_head_last_layers.pth" => "5ce5a341",
        "aim_1b_5bimgs_attnprobe_head_last_layers.pth" => "db3be2ad",
        "aim_3b_5bimgs_attnprobe_head_last_layers.pth" => "5c057b30",
        "aim_7b_5bimgs_attnprobe_head_last_layers.pth" => "1e5c99ba",
        "aim_600m_2bimgs_attnprobe_head_best_layers.pth" => "ebd45c05",
        "aim_1b_5bimgs_attnprobe_head_best_layers.pth" => "f1ed7852",
        "aim_3b_5bimgs_attnprobe_head_best_layers.pth" => "ad380e16",
        "aim_7b_5bimgs_attnprobe_head_best_layers.pth" => "73ecd732",
        _ => return None,
    })
}

/// What to say of a file of Apple's with another hash than the published one.
pub fn hash_warning(file: &str, sha256: &str) -> Option<String> {
    let published = published_sha256(file)?;
    (!sha256.starts_with(published)).then(|| {
        format!(
            "{file}: its SHA-256 begins with {}, Apple published {published}: it is another file",
            sha256.get(..8).unwrap_or(sha256)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_files_have_published_hashes() {
        for family in Family::ALL {
            for layers in [ProbeLayers::Best, ProbeLayers::Last] {
                let pair = ApplePair::new(family, Some(&layers));
                assert!(pair.warning().is_none());
                for name in pair.names() {
                    let hash = published_sha256(&name).unwrap();
                    assert_eq!(hash_warning(&name, &hash.repeat(8)), None);
                    assert!(hash_warning(&name, &"0".repeat(64)).unwrap().contains(hash));
                }
            }
        }
        let list = ProbeLayers::List(vec![1]);
        let pair = ApplePair::new(Family::Aim1B, Some(&list));
        assert!(pair.head.ends_with("head_best_layers.pth") && pair.warning().is_some());
        assert_eq!(
            ApplePair::families(|name| name.contains("_3b_")),
            [Family::Aim3B]
        );
    }
}
