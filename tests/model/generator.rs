//! The generator of the parity tests gives the weights that the reference ran on.

use sha2::{Digest as _, Sha256};

/// SHA-256 of the little-endian bytes of tensors of seed `a`, and of the input, as the reference's
/// run recorded them.
const HASHES: &[(&str, &str, &[usize], &str)] = &[
    (
        "a",
        "preprocessor.patchifier.proj.weight",
        &[128, 3, 14, 14],
        "d7f07e0e090e4350c2e0c95f1c8e91e89d6c42d75677bb4c9b5765ebc6afbcb0",
    ),
    (
        "a",
        "preprocessor.patchifier.proj.bias",
        &[128],
        "aa39dcd1770c8d47713bb1201608f4b546d6325343bdd41a4a9380b9767da5ba",
    ),
    (
        "a",
        "preprocessor.patchifier.norm.weight",
        &[128],
        "74bc57c4c0d2f87831cecf0239d9ca382358aa43683c69260fe81111af373523",
    ),
    (
        "a",
        "trunk.blocks.0.attn.qkv.weight",
        &[384, 128],
        "f3c2be360be89967c5329636f2e300d976e0127e11a21442897060c5a8e43fa9",
    ),
    (
        "a",
        "trunk.blocks.3.mlp.fc2.weight",
        &[128, 512],
        "fe35610602b5f8a64a2ebc214f3f8668c125691814dacc74266f4a073ed7f262",
    ),
    (
        "a",
        "trunk.blocks.2.mlp.fc1.weight",
        &[512, 128],
        "a3808722f4b1534a8c63aa99fe5ee850d1068e4429df5b9e81a395fbac8758be",
    ),
    (
        "a",
        "head.bn.running_mean",
        &[128],
        "c6da2f81888b9ffb62156b7a3f8d0e233caedf613a169c714c8949ffcbc4e2b7",
    ),
    (
        "a",
        "head.bn.running_var",
        &[128],
        "eb1940f92d713a1d0c2b4dd61ba00de0437fd6a0159a96d53004b7e3c72e4090",
    ),
    (
        "a",
        "head.cls_token",
        &[1, 1, 128],
        "259db51b8430e7f84291690f8858d9ee0c61d187e32f4c1f96f113c872b721ea",
    ),
    (
        "a",
        "head.linear.weight",
        &[1000, 128],
        "e54f5d0d75246c0d449e9fdb6e3d0a9d8ae9c79ddf46ff248cbd3619d86212e5",
    ),
    (
        "a.in",
        "input",
        &[1, 3, 224, 224],
        "09c33bf0a96f75eed66ec5b9e898becdb662eed2b278d780f135be490b4bce3f",
    ),
    (
        "c.in",
        "input",
        &[3, 3, 224, 224],
        "e577fbf6317a197c1070dff79147690acc2dd0648df1d4a64f8604cb96b08fb6",
    ),
];

#[test]
fn generator_gives_the_reference_weights() {
    for (seed, name, shape, hash) in HASHES {
        let bytes: Vec<u8> = crate::common::generator::tensor(seed, name, shape)
            .into_iter()
            .flat_map(f32::to_le_bytes)
            .collect();
        let digest: String = Sha256::digest(&bytes)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(&digest, hash, "{seed}/{name}");
    }
}
