//! From locked to open: one message of a witness brings state key and freshness together.

use std::path::Path;

use sealift_kbs_protocol::{
    merkle::TreeHead,
    unlock::{Unlock, UnlockMessage},
};
use sealift_pinned_tls::TlsIdentity;
use sealift_signed_document::{Document, DocumentError, SecretBytes, Signed, SigningKey};
use zeroize::Zeroizing;

use crate::{
    boot::Boot,
    ledger::{Ledger, witness_signed},
    refusal::Refusal,
    state::{
        database::Table,
        log::{EntryType, Event, LogEntry},
        records::{Founding, IDENTITY_KEY, LOG_KEY, TLS_KEY},
        vault::{Change, Freshness, Vault, VaultError},
    },
};

/// The key manager's own long-lived keys.
pub(crate) struct OwnKeys {
    pub(crate) identity: SigningKey,
    pub(crate) log: SigningKey,
    pub(crate) tls: TlsIdentity,
}

/// What an unlock gives.
pub(crate) struct Unlocked {
    pub(crate) keys: OwnKeys,
    pub(crate) ledger: Ledger,
    pub(crate) entry: LogEntry,
}

/// Opens the state in `folder`.
///
/// Checked in this order: the witness's delegation and signature, this boot's key and nonce, the
/// state key, that the log continues what the witness saw, that the epoch rises, that every record
/// opens and is the one that the last log entry sealed, mode, identity.
pub(crate) async fn unlock(
    boot: &Boot,
    folder: &Path,
    message: &UnlockMessage,
    now: u64,
) -> Result<Unlocked, Refusal> {
    let signed = signed_unlock(boot, message, now)?;
    let document = signed.document();
    if document.boot_key != boot.key.public() || document.boot_nonce != boot.nonce {
        return Err(Refusal::OtherBoot);
    }
    let state_key = boot
        .key
        .open(Unlock::TYPE, &signed.digest(), &message.state_key)
        .map_err(Refusal::Document)?;
    let state_key = SecretBytes::from_slice(&state_key).ok_or(Refusal::BadStateKey)?;
    let head = TreeHead {
        size: document.tree_size,
        root: document.root,
    };
    let freshness = Freshness {
        epoch: document.epoch,
        head,
    };
    let mut vault = Vault::open(folder, &state_key, &freshness).await?;
    vault.witnessed(document.time);
    let (keys, change) = own_keys(boot, &vault)?;
    check_identity(document, &keys, &vault)?;
    let event = Event::new(
        EntryType::Unlocked,
        [
            ("km_id", keys.identity.public().thumbprint().to_string()),
            ("epoch", document.epoch.to_string()),
            ("unlock", signed.digest().to_string()),
        ],
    );
    let entry = vault.begin_epoch(now, change, event).await?;
    let ledger = Ledger::new(vault, document.tree_size, entry.time);
    Ok(Unlocked {
        keys,
        ledger,
        entry,
    })
}

fn signed_unlock(
    boot: &Boot,
    message: &UnlockMessage,
    now: u64,
) -> Result<Signed<Unlock>, Refusal> {
    let roots = boot.config.config.owner_roots();
    witness_signed(&message.document, &message.delegation, (roots, now))
}

/// Reads the own keys, or makes them when nothing was ever kept here.
fn own_keys(boot: &Boot, vault: &Vault) -> Result<(OwnKeys, Change), Refusal> {
    let config = &boot.config.config;
    if vault.is_new() {
        let tls = TlsIdentity::generate_for(config.tls_names());
        let keys = OwnKeys {
            identity: SigningKey::generate(),
            log: SigningKey::generate(),
            tls: tls.map_err(|_| unreadable())?,
        };
        let change = Change::none()
            .put(
                Founding::ID,
                &Founding {
                    mode: config.mode(),
                },
            )?
            .put_secret(Table::Keys, IDENTITY_KEY, &keys.identity.to_pkcs8())
            .put_secret(Table::Keys, LOG_KEY, &keys.log.to_pkcs8())
            .put_secret(Table::Keys, TLS_KEY, keys.tls.to_pkcs8());
        return Ok((keys, change));
    }
    let founding = vault
        .get::<Founding>(Founding::ID)?
        .ok_or_else(unreadable)?;
    if founding.mode != config.mode() {
        return Err(Refusal::OtherMode);
    }
    let stored = |name: &str| {
        let bytes = vault.secret(Table::Keys, name).ok_or_else(unreadable)?;
        Ok::<_, Refusal>(Zeroizing::new(bytes.to_vec()))
    };
    let signing = |name: &str| SigningKey::from_pkcs8(&stored(name)?).map_err(Refusal::Document);
    let keys = OwnKeys {
        identity: signing(IDENTITY_KEY)?,
        log: signing(LOG_KEY)?,
        tls: TlsIdentity::from_pkcs8_for(&stored(TLS_KEY)?, config.tls_names())
            .map_err(|_| unreadable())?,
    };
    Ok((keys, Change::none()))
}

/// Null stands for a witness that never saw an identity, so only together with an empty log.
fn check_identity(document: &Unlock, keys: &OwnKeys, vault: &Vault) -> Result<(), Refusal> {
    let own = keys.identity.public().thumbprint();
    let fits = match &document.km_id {
        Some(km_id) => !vault.is_new() && *km_id == own,
        None => document.tree_size == 0,
    };
    if fits {
        Ok(())
    } else {
        Err(Refusal::OtherKeyManager)
    }
}

fn unreadable() -> Refusal {
    Refusal::State(VaultError::Record(DocumentError::BadKey))
}
