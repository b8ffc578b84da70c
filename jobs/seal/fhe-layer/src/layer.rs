//! Reading the bodies of one layer and evaluating it.

use std::num::NonZeroUsize;

use crate::limbs::{LimbMatrix, LimbMatrixBuilder};
use crate::meta::{ActivationError, LayerMeta};
use crate::row::{EncryptedRow, Sums};
use crate::set::ParameterSet;

/// An encrypted layer in memory, ready to be evaluated.
///
/// It holds ciphertexts and public facts only; whether these bodies are the published ones is
/// checked by whoever reads them, chunk by chunk, against the manifest.
pub struct EncryptedLayer {
    meta: LayerMeta,
    bodies: LimbMatrix,
}

impl EncryptedLayer {
    /// Reads the whole body tensor, U8 [d_in, d_out, L].
    pub fn from_bytes(meta: LayerMeta, body: &[u8]) -> Result<Self, BodyError> {
        let mut reader = LayerReader::new(meta);
        reader.push(body)?;
        reader.finish()
    }

    /// The facts of the layer.
    pub fn meta(&self) -> &LayerMeta {
        &self.meta
    }

    /// The exact integers Y of one activation, on the calling thread.
    pub fn evaluate(&self, x: &[i8]) -> Result<Sums, EvaluationError> {
        let mut sums = self.evaluate_batch(&[x], NonZeroUsize::MIN)?;
        Ok(sums.pop().expect("one activation gives one row of sums"))
    }

    /// The exact integers Y of each activation, on up to `threads` threads.
    ///
    /// Every activation is checked before the first is evaluated.
    pub fn evaluate_batch(
        &self,
        xs: &[&[i8]],
        threads: NonZeroUsize,
    ) -> Result<Vec<Sums>, EvaluationError> {
        let mut sums = Vec::new();
        self.evaluate_batch_into(xs, threads, &mut sums)
            .map(|()| sums)
    }

    /// As [`Self::evaluate_batch`], using the memory of earlier `sums` again.
    pub fn evaluate_batch_into(
        &self,
        xs: &[&[i8]],
        threads: NonZeroUsize,
        sums: &mut Vec<Sums>,
    ) -> Result<(), EvaluationError> {
        for (item, x) in xs.iter().enumerate() {
            self.meta
                .check_activation(x)
                .map_err(|source| EvaluationError::Activation { item, source })?;
        }
        let products = self.bodies.d_in() * self.bodies.d_out() * xs.len();
        self.bodies.sums(xs, worthwhile(threads, products), sums);
        Ok(())
    }

    /// Evaluates activations with their scales into rows for the key manager.
    pub fn evaluate_rows(
        &self,
        items: &[(&[i8], f32)],
        threads: NonZeroUsize,
    ) -> Result<Vec<EncryptedRow>, EvaluationError> {
        if let Some(item) = items
            .iter()
            .position(|(_, s)| !self.meta.scale().contains(*s))
        {
            return Err(EvaluationError::Scale { item });
        }
        let xs: Vec<&[i8]> = items.iter().map(|(x, _)| *x).collect();
        let sums = self.evaluate_batch(&xs, threads)?;
        let rows = items.iter().zip(sums).map(|((x, s), y)| {
            EncryptedRow::from_parts(self.meta.set(), x.to_vec(), *s, y)
                .expect("the kernel makes sums of the set's width")
        });
        Ok(rows.collect())
    }
}

/// Products that take as long as it takes to start a thread, and a few times more: some 300 µs.
const THREAD_PRODUCTS: usize = 4 << 20;

/// At most `threads`, each with enough to do.
fn worthwhile(threads: NonZeroUsize, products: usize) -> NonZeroUsize {
    let most = NonZeroUsize::new(products / THREAD_PRODUCTS);
    most.map_or(NonZeroUsize::MIN, |most| most.min(threads))
}

/// Reads a body tensor piece by piece, in order, straight into the kernel's planes.
pub struct LayerReader {
    meta: LayerMeta,
    bodies: LimbMatrixBuilder,
    /// The column that is not complete yet.
    partial: Vec<u8>,
    read: usize,
}

impl LayerReader {
    /// A reader of the layer of these facts.
    pub fn new(meta: LayerMeta) -> Self {
        let bodies = LimbMatrixBuilder::new(meta.d_in(), meta.d_out(), meta.set().body_planes());
        Self {
            meta,
            bodies,
            partial: Vec::new(),
            read: 0,
        }
    }

    /// Takes the next bytes of the tensor. Pieces may be cut anywhere.
    pub fn push(&mut self, mut piece: &[u8]) -> Result<(), BodyError> {
        self.read += piece.len();
        if self.read > self.meta.body_bytes() {
            return Err(self.wrong_length());
        }
        let column_bytes = self.meta.d_out() * self.meta.set().body_planes();
        if !self.partial.is_empty() {
            let missing = (column_bytes - self.partial.len()).min(piece.len());
            let (head, rest) = piece.split_at(missing);
            self.partial.extend_from_slice(head);
            piece = rest;
            if self.partial.len() == column_bytes {
                self.bodies.push_column(&self.partial);
                self.partial.clear();
            }
        }
        let mut columns = piece.chunks_exact(column_bytes);
        columns
            .by_ref()
            .for_each(|column| self.bodies.push_column(column));
        self.partial.extend_from_slice(columns.remainder());
        Ok(())
    }

    /// The layer, once every byte has been read.
    pub fn finish(self) -> Result<EncryptedLayer, BodyError> {
        if self.read != self.meta.body_bytes() {
            return Err(self.wrong_length());
        }
        let bodies = self.bodies.finish().expect("all bytes make all columns");
        Ok(EncryptedLayer {
            meta: self.meta,
            bodies,
        })
    }

    fn wrong_length(&self) -> BodyError {
        let coefficients = self.meta.d_in() * self.meta.d_out();
        let fits = ParameterSet::ALL
            .into_iter()
            .find(|set| set.body_planes() * coefficients == self.read);
        let (expected, declared) = (self.meta.body_bytes(), self.meta.set());
        fits.map_or(
            BodyError::Length {
                expected,
                found: self.read,
            },
            |fits| BodyError::OtherSet { declared, fits },
        )
    }
}

/// Why bytes are not the bodies of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// Truncated or too long.
    #[error("the encrypted layer has {found} bytes where {expected} belong; fetch the file again")]
    Length {
        /// d_in · d_out · L.
        expected: usize,
        /// Bytes read so far.
        found: usize,
    },
    /// As many bytes as another parameter set needs.
    #[error("the manifest says {declared:?}, the body has the size of {fits:?}; seal again")]
    OtherSet {
        /// The set of the manifest.
        declared: ParameterSet,
        /// The set that would have this size.
        fits: ParameterSet,
    },
}

/// Why a batch was not evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluationError {
    /// An activation that could decrypt wrongly, or of another layer.
    #[error("item {item} cannot be evaluated under encryption")]
    Activation {
        /// Its position in the batch.
        item: usize,
        /// What is wrong with it.
        source: ActivationError,
    },
    /// A scale that the key manager would refuse.
    #[error("the activation scale of item {item} is outside the range of the manifest")]
    Scale {
        /// Its position in the batch.
        item: usize,
    },
}
