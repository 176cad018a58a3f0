//! Which tensors an AIM v1 checkpoint holds, and of what shape.

use crate::config::Config;

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The weight of a linear layer, `[d_output, d_input]`: what quantisation applies to.
    Linear,
    /// The weight of the patch embedding, `[d_output, channels, height, width]`: a matrix over the values of a
    /// patch, which stays in floats.
    Patches,
    /// Anything else the model computes with.
    Float,
    /// A float that belongs to the checkpoint but that the probe never reads.
    Unused,
    /// A count of training steps: an integer, which may be absent.
    Counter,
}

/// One tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name, as PyTorch saves it.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
    /// The block it belongs to, if any.
    pub block: Option<usize>,
}

impl TensorSpec {
    /// True if a run of the first `blocks` blocks and the probe needs it.
    pub fn is_needed(&self, blocks: usize) -> bool {
        matches!(self.role, Role::Linear | Role::Patches | Role::Float)
            && self.block.is_none_or(|block| block < blocks)
    }
}

/// What `DataParallel` and `torch.compile` put before every name.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];

/// The name of a tensor as the model itself has it, whatever the model was wrapped in when it was saved.
pub fn unwrapped(name: &str) -> &str {
    let mut bare = name;
    while let Some(rest) = WRAPPERS
        .iter()
        .find_map(|wrapper| bare.strip_prefix(wrapper))
    {
        bare = rest;
    }
    bare
}

/// What the model was wrapped in when a tensor of this name was saved.
pub fn wrapper(name: &str) -> &str {
    name.strip_suffix(unwrapped(name)).unwrap_or_default()
}

/// Every tensor of a checkpoint in the order in which the model is loaded: patch embedding, probe,
/// then block by block.
///
/// Source: the state dict of the reference's `AIM` (`aim/v1/torch/models.py`).
pub fn tensors(config: &Config) -> Vec<TensorSpec> {
    let dim = config.embed_dim;
    let hidden = config.mlp_hidden_dim();
    let [patch_height, patch_width] = config.patch_size;
    let mut layout = Layout::default();

    let patch = [dim, config.num_channels, patch_height, patch_width];
    layout.add("preprocessor.patchifier.proj.weight", &patch, Role::Patches);
    layout.add("preprocessor.patchifier.proj.bias", &[dim], Role::Float);
    layout.add_norm("preprocessor.patchifier.norm", dim);

    layout.add("head.bn.running_mean", &[dim], Role::Float);
    layout.add("head.bn.running_var", &[dim], Role::Float);
    layout.add("head.bn.num_batches_tracked", &[], Role::Counter);
    layout.add("head.cls_token", &[1, 1, dim], Role::Float);
    layout.add("head.k.weight", &[dim, dim], Role::Linear);
    layout.add("head.v.weight", &[dim, dim], Role::Linear);
    layout.add(
        "head.linear.weight",
        &[config.num_classes, dim],
        Role::Linear,
    );

    for i in 0..config.num_blocks {
        layout.block = Some(i);
        let block = format!("trunk.blocks.{i}");
        layout.add_norm(&format!("{block}.norm_1"), dim);
        layout.add(
            &format!("{block}.attn.qkv.weight"),
            &[3 * dim, dim],
            Role::Linear,
        );
        layout.add(
            &format!("{block}.attn.proj.weight"),
            &[dim, dim],
            Role::Linear,
        );
        layout.add_norm(&format!("{block}.norm_2"), dim);
        layout.add(
            &format!("{block}.mlp.fc1.weight"),
            &[hidden, dim],
            Role::Linear,
        );
        layout.add(
            &format!("{block}.mlp.fc2.weight"),
            &[dim, hidden],
            Role::Linear,
        );
    }

    layout.block = None;
    layout.add("trunk.post_trunk_norm.weight", &[dim], Role::Unused);
    layout.add("trunk.post_trunk_norm.bias", &[dim], Role::Unused);
    layout.specs
}

#[derive(Default)]
struct Layout {
    specs: Vec<TensorSpec>,
    block: Option<usize>,
}

impl Layout {
    fn add(&mut self, name: &str, shape: &[usize], role: Role) {
        self.specs.push(TensorSpec {
            name: name.to_owned(),
            shape: shape.to_vec(),
            role,
            block: self.block,
        });
    }

    fn add_norm(&mut self, name: &str, dim: usize) {
        self.add(&format!("{name}.weight"), &[dim], Role::Float);
        self.add(&format!("{name}.bias"), &[dim], Role::Float);
    }
}
