//! Encryption of records under the state key, and the seal over all records together.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac::{HMAC_SHA256, Key, sign},
};
use sealift_signed_document::{Digest, SecretBytes, derive_key};
use zeroize::Zeroizing;

use super::database::{SealedRow, Table};

/// A record that was not sealed under this state key, in this place and epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of the database does not open: another state key, or the row was changed")]
pub struct DoesNotOpen;

/// Seals records: AES-256-GCM under HKDF(SK, "km/db"), a random nonce before the ciphertext,
/// associated data = table ‖ row id ‖ epoch, the first two with their lengths before them.
///
/// A 96-bit random nonce repeats with probability 2^-32 only after 2^32 records; a state key is
/// replaced long before.
pub(crate) struct RecordCipher(LessSafeKey);

impl RecordCipher {
    pub(crate) fn new(state_key: &SecretBytes<32>) -> Self {
        let key = derive_key(state_key.expose(), "km/db", &[]);
        let key = UnboundKey::new(&AES_256_GCM, key.expose());
        Self(LessSafeKey::new(
            key.expect("AES-256 takes every key of 32 bytes"),
        ))
    }

    pub(crate) fn seal(&self, table: Table, id: &str, epoch: u64, plain: &[u8]) -> SealedRow {
        let nonce = *SecretBytes::<NONCE_LEN>::random().expose();
        let mut sealed = nonce.to_vec();
        let mut body = Zeroizing::new(plain.to_vec());
        let tag = self
            .0
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place(table, id, epoch)),
                &mut body,
            )
            .expect("records are far below the 64 GiB that GCM encrypts at once");
        sealed.extend_from_slice(&body);
        sealed.extend_from_slice(tag.as_ref());
        SealedRow {
            table,
            id: id.to_owned(),
            sealed,
        }
    }

    pub(crate) fn open(
        &self,
        row: &SealedRow,
        epoch: u64,
    ) -> Result<Zeroizing<Vec<u8>>, DoesNotOpen> {
        let (nonce, body) = row.sealed.split_first_chunk().ok_or(DoesNotOpen)?;
        let mut body = Zeroizing::new(body.to_vec());
        let length = self
            .0
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(place(row.table, &row.id, epoch)),
                &mut body,
            )
            .map_err(|_| DoesNotOpen)?
            .len();
        body.truncate(length);
        Ok(body)
    }
}

fn place(table: Table, id: &str, epoch: u64) -> Vec<u8> {
    let mut place = Vec::new();
    for part in [table.name(), id] {
        place.extend_from_slice(&(part.len() as u64).to_be_bytes());
        place.extend_from_slice(part.as_bytes());
    }
    place.extend_from_slice(&epoch.to_be_bytes());
    place
}

/// A keyed digest of the set of all records, kept up with every change in constant time: the XOR
/// of an HMAC per record. Only [`StateSeal::at`] leaves this process, so nobody who lacks the key
/// can combine seals into one of a state that never was.
pub(crate) struct StateSeal {
    record_key: Key,
    seal_key: Key,
    sum: [u8; 32],
}

impl StateSeal {
    pub(crate) fn new(state_key: &SecretBytes<32>) -> Self {
        let key = |purpose| {
            Key::new(
                HMAC_SHA256,
                derive_key(state_key.expose(), purpose, &[]).expose(),
            )
        };
        Self {
            record_key: key("km/state-record"),
            seal_key: key("km/state-seal"),
            sum: [0; 32],
        }
    }

    /// Adds a record, or takes one out again.
    pub(crate) fn toggle(&mut self, table: Table, id: &str, plain: &[u8]) {
        let mut record = place(table, id, 0);
        record.extend_from_slice(Digest::of(plain).as_bytes());
        let tag = sign(&self.record_key, &record);
        for (sum, tag) in self.sum.iter_mut().zip(tag.as_ref()) {
            *sum ^= tag;
        }
    }

    /// The seal that the log entry `index` carries.
    pub(crate) fn at(&self, index: u64) -> Digest {
        let tag = sign(
            &self.seal_key,
            &[index.to_be_bytes().as_slice(), &self.sum].concat(),
        );
        let mut bytes = [0; 32];
        bytes.copy_from_slice(tag.as_ref());
        Digest::from_bytes(bytes)
    }

    pub(crate) fn sum(&self) -> [u8; 32] {
        self.sum
    }

    pub(crate) fn restore(&mut self, sum: [u8; 32]) {
        self.sum = sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_opens_only_in_its_place_and_epoch() {
        let cipher = RecordCipher::new(&SecretBytes::random());
        let row = cipher.seal(Table::ModelKeys, "m/v", 3, b"key");
        assert_eq!(cipher.open(&row, 3).unwrap().as_slice(), b"key");
        assert!(cipher.open(&row, 4).is_err());
        let moved = |table, id: &str| SealedRow {
            table,
            id: id.into(),
            sealed: row.sealed.clone(),
        };
        assert!(cipher.open(&moved(Table::ModelKeys, "m/w"), 3).is_err());
        assert!(cipher.open(&moved(Table::FheBundles, "m/v"), 3).is_err());
        let other = RecordCipher::new(&SecretBytes::random());
        assert!(other.open(&row, 3).is_err());
        let short = SealedRow {
            table: Table::ModelKeys,
            id: "m/v".into(),
            sealed: vec![0; 5],
        };
        assert!(cipher.open(&short, 3).is_err());
    }

    #[test]
    fn table_and_row_cannot_trade_characters() {
        assert_ne!(place(Table::Keys, "x", 0), place(Table::Models, "x", 0));
        assert_ne!(place(Table::FheRows, "", 1), place(Table::FheRows, "\0", 1));
    }

    #[test]
    fn the_seal_is_that_of_the_set_of_records_at_one_entry() {
        let key = SecretBytes::random();
        let (mut one, mut two) = (StateSeal::new(&key), StateSeal::new(&key));
        one.toggle(Table::Keys, "a", b"1");
        one.toggle(Table::Keys, "b", b"2");
        two.toggle(Table::Keys, "b", b"2");
        two.toggle(Table::Keys, "c", b"3");
        assert_ne!(one.at(1), two.at(1));
        two.toggle(Table::Keys, "c", b"3");
        two.toggle(Table::Keys, "a", b"1");
        assert_eq!(one.at(1), two.at(1));
        assert_ne!(one.at(1), one.at(2));
        let stranger = StateSeal::new(&SecretBytes::random());
        assert_ne!(StateSeal::new(&key).at(1), stranger.at(1));
    }
}
