//! A small output layer, encrypted as an owner does, and evaluated as a guest does.

use std::{collections::BTreeMap, num::NonZeroUsize};

use sealift_encrypted_batch::{HeadLabels, Labels};
use sealift_fhe_key::{LayerKeys, PlainLayer};
use sealift_fhe_layer::{EncryptedLayer, EncryptedRow, ParameterSet, ScaleRange};
use sealift_kbs_protocol::{
    FheBundle, KeyBundle,
    call::{Bytes, FheRow},
    command::Register,
};
use zeroize::Zeroizing;

use crate::harness::{OpenKm, VERSION, World, bundle};

pub(crate) const LAYER: &str = "head";
pub(crate) const LABELS: [&str; 3] = ["negative", "neutral", "positive"];
pub(crate) const D_IN: usize = 8;
/// Label k is the answer to an activation that is 100 at input k and 0 elsewhere.
const WEIGHTS: [i8; 3 * D_IN] = {
    let mut weights = [0; 3 * D_IN];
    let mut k = 0;
    while k < 3 {
        weights[k * D_IN + k] = 100;
        k += 1;
    }
    weights
};

pub(crate) struct EncryptedHead {
    pub(crate) layer: EncryptedLayer,
    pub(crate) secret: Vec<u8>,
}

impl EncryptedHead {
    pub(crate) fn new() -> Self {
        Self::named(LAYER)
    }

    /// The same weights as a layer of another name, under keys of its own.
    pub(crate) fn named(layer: &str) -> Self {
        let keys = LayerKeys::generate(ParameterSet::P48B40, D_IN, LABELS.len()).unwrap();
        let (encrypted, secrets) = keys
            .encrypt(&PlainLayer {
                layer,
                weights: &WEIGHTS,
                row_scales: &[0.01; 3],
                bias: &[0.0; 3],
                scale: ScaleRange::new(0.001, 1.0).unwrap(),
            })
            .unwrap();
        let layer = EncryptedLayer::from_bytes(encrypted.meta, &encrypted.body).unwrap();
        Self {
            layer,
            secret: secrets.to_bytes().to_vec(),
        }
    }

    pub(crate) fn bundle(&self, labels: &[&str]) -> KeyBundle {
        let labels = labels.iter().map(ToString::to_string).collect();
        keys(
            self.layer_bundle()
                .with_labels(Labels::one(labels).unwrap()),
        )
    }

    /// The layer's rows as those of several heads, each with its name and its labels.
    pub(crate) fn bundle_of_heads(&self, heads: &[(&str, &[&str])]) -> KeyBundle {
        keys(self.layer_bundle().with_labels(head_labels(heads)))
    }

    pub(crate) fn layer_bundle(&self) -> FheBundle {
        FheBundle::from_bytes(Zeroizing::new(self.secret.clone()))
    }

    /// Opens a key manager with one active version that has this head.
    pub(crate) async fn registered<'a>(
        &self,
        world: &'a World,
        change: impl FnOnce(&mut Register),
    ) -> OpenKm<'a> {
        registered(world, &self.bundle(&LABELS), change).await
    }

    /// An honest row whose answer is label `k`.
    pub(crate) fn row(&self, row: u64, id: &str, k: usize) -> FheRow {
        let mut x = [0; D_IN];
        x[k] = 100;
        self.evaluated((row, id), &x, 0.01)
    }

    pub(crate) fn evaluated(&self, (row, id): (u64, &str), x: &[i8], s: f32) -> FheRow {
        let rows = self
            .layer
            .evaluate_rows(&[(x, s)], NonZeroUsize::MIN)
            .unwrap();
        wire(row, id, &rows[0])
    }
}

/// Opens a key manager with one active version that has these keys.
pub(crate) async fn registered<'a>(
    world: &'a World,
    bundle: &KeyBundle,
    change: impl FnOnce(&mut Register),
) -> OpenKm<'a> {
    let open = world.open().await;
    open.install().await;
    let mut register = open.registration();
    change(&mut register);
    open.register_with(register, bundle).await.unwrap();
    open.activate(VERSION, 4).await.unwrap();
    open
}

/// The keys of a version with the one encrypted layer [`LAYER`].
pub(crate) fn keys(layer: FheBundle) -> KeyBundle {
    KeyBundle {
        fhe: BTreeMap::from([(LAYER.to_owned(), layer)]),
        ..bundle()
    }
}

fn head_labels(heads: &[(&str, &[&str])]) -> Labels {
    let heads = heads.iter().map(|(name, labels)| HeadLabels {
        name: (*name).to_owned(),
        labels: labels.iter().map(ToString::to_string).collect(),
    });
    Labels::heads(heads.collect()).unwrap()
}

fn wire(row: u64, id: &str, evaluated: &EncryptedRow) -> FheRow {
    let width = evaluated.y().value_bytes();
    let sums = evaluated
        .y()
        .iter()
        .flat_map(|y| y.to_le_bytes().into_iter().take(width));
    FheRow {
        row,
        id: id.to_owned(),
        x: Bytes(evaluated.x().iter().map(|x| x.cast_unsigned()).collect()),
        s: evaluated.s(),
        y: Bytes(sums.collect()),
    }
}
