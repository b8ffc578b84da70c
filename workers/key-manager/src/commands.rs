//! Changes that carry no secret: one function for each kind.

use sealift_encrypted_batch::{AgeIdentity, Grant, GrantAck, GrantId};
use sealift_init_data::InitTemplate;
use sealift_kbs_protocol::{
    Name,
    command::{
        AckOutcome, Acknowledged, Activate, Approval, Channel, CommandKind, CommandMessage, Floor,
        Install, InstallKind, Withdraw,
    },
};
use sealift_signed_document::{Digest, Document, Envelope, VerifyingKey};
use sealift_verifier::ReferenceValues;

use crate::{
    authority::{Authorised, Command, admin_signed},
    erasure,
    ledger::Ledger,
    refusal::Refusal,
    rotation,
    service::Open,
    state::{
        database::Table,
        log::{EntryType, Event},
        records::{GrantRecord, Installed, Model, Version, VersionState},
        vault::{Change, Vault},
    },
};

/// Carries out a change and acknowledges it.
pub(crate) async fn command(
    open: &Open,
    message: &CommandMessage,
) -> Result<Acknowledged, Refusal> {
    let content = match (message.kind, &message.content) {
        (CommandKind::Install, Some(content)) => Some(content),
        (CommandKind::Install, None) | (_, Some(_)) => return Err(Refusal::Malformed),
        (_, None) => None,
    };
    let step = Step {
        open,
        approvals: &message.approvals,
        content,
    };
    match message.kind {
        CommandKind::Activate => step.run(AckOutcome::Activated, activate).await,
        CommandKind::Channel => step.run(AckOutcome::ChannelSet, set_channel).await,
        CommandKind::Erase => erasure::erase(step, open).await,
        CommandKind::Floor => step.run(AckOutcome::FloorRaised, raise_floor).await,
        CommandKind::Grant => step.run(AckOutcome::Granted, grant).await,
        CommandKind::Install => step.run(AckOutcome::Installed, install).await,
        CommandKind::Rotate => step.run(AckOutcome::Rotated, rotation::rotate).await,
        CommandKind::Withdraw => step.run(AckOutcome::Withdrawn, withdraw).await,
    }
}

/// The acknowledgement of a grant, again.
pub(crate) async fn grant_ack(open: &Open, grant: GrantId) -> Result<Envelope, Refusal> {
    let ledger = open.ledger().await;
    let record = ledger.vault.get::<GrantRecord>(&GrantRecord::id(grant))?;
    record.map(|record| record.ack).ok_or(Refusal::NotFound)
}

/// One change, from its approvals to its acknowledgement.
pub(crate) struct Step<'a> {
    open: &'a Open,
    approvals: &'a [Approval],
    content: Option<&'a Approval>,
}

/// What one kind of change is worked out from.
pub(crate) struct Given<'a, D> {
    pub(crate) open: &'a Open,
    pub(crate) ledger: &'a Ledger,
    pub(crate) change: Change,
    pub(crate) command: &'a Authorised<D>,
    pub(crate) model: Name,
    content: Option<&'a Approval>,
    pub(crate) now: u64,
}

/// What it comes to.
pub(crate) struct Planned {
    change: Change,
    event: Event,
    grant_ack: Option<Envelope>,
}

impl Planned {
    pub(crate) fn new(change: Change, event: Event) -> Self {
        Self {
            change,
            event,
            grant_ack: None,
        }
    }
}

impl Step<'_> {
    pub(crate) async fn run<D: Command + Document + Clone + PartialEq>(
        self,
        outcome: AckOutcome,
        plan: impl FnOnce(Given<'_, D>) -> Result<Planned, Refusal> + Send,
    ) -> Result<Acknowledged, Refusal> {
        let mut ledger = self.open.ledger().await;
        let clock = self.open.clock();
        let now = ledger.time(clock);
        let command = Authorised::<D>::by(self.open.config(), self.approvals, now)?;
        let (model, change) = command.next(&ledger.vault, &self.open.km_id, now)?;
        let Planned {
            change,
            event,
            grant_ack,
        } = plan(Given {
            open: self.open,
            ledger: &ledger,
            change,
            command: &command,
            model,
            content: self.content,
            now,
        })?;
        let entry = ledger
            .record(clock, change, event.under(command.digest()))
            .await?;
        let ack = self.open.acknowledge(command.digest(), outcome, &entry)?;
        Ok(Acknowledged { grant_ack, ..ack })
    }
}

impl<D> Given<'_, D> {
    /// The model, if it is this owner's.
    fn own_model(&self) -> Result<Model, Refusal> {
        own_model(&self.ledger.vault, (self.command.root(), &self.model))
    }

    /// A version of the model, if it is this owner's.
    pub(crate) fn own_version(&self, version: &Name) -> Result<(String, Version), Refusal> {
        let owned = (self.command.root(), &self.model, version);
        own_version(&self.ledger.vault, owned)
    }

    pub(crate) fn event<const N: usize>(
        &self,
        kind: EntryType,
        more: [(&'static str, String); N],
    ) -> Event {
        let mut event = Event::new(kind, more);
        event.subjects.insert("model", self.model.to_string());
        event
    }
}

fn own_model(vault: &Vault, (root, model): (&VerifyingKey, &Name)) -> Result<Model, Refusal> {
    let model = vault.get::<Model>(model.as_str())?;
    let model = model.ok_or(Refusal::UnknownVersion)?;
    if model.root == *root {
        Ok(model)
    } else {
        Err(Refusal::NameTaken)
    }
}

/// A version with its id, if its model is the owner's.
pub(crate) fn own_version(
    vault: &Vault,
    (root, model, version): (&VerifyingKey, &Name, &Name),
) -> Result<(String, Version), Refusal> {
    own_model(vault, (root, model))?;
    let id = Version::id(model, version);
    let version = vault.get::<Version>(&id)?.ok_or(Refusal::UnknownVersion)?;
    Ok((id, version))
}

fn activate(given: Given<'_, Activate>) -> Result<Planned, Refusal> {
    let document = given.command.document();
    let (id, version) = given.own_version(&document.version)?;
    if version.state != VersionState::Staged {
        return Err(Refusal::VersionState);
    }
    if version.register.manifest_sha256 != document.manifest_sha256 {
        return Err(Refusal::OtherManifest);
    }
    let subjects = [
        ("version", document.version.to_string()),
        ("manifest_sha256", document.manifest_sha256.to_string()),
    ];
    let event = given.event(EntryType::Activated, subjects);
    let active = Version {
        state: VersionState::Active,
        ..version
    };
    Ok(Planned::new(given.change.put(&id, &active)?, event))
}

fn withdraw(given: Given<'_, Withdraw>) -> Result<Planned, Refusal> {
    let document = given.command.document();
    let (id, version) = given.own_version(&document.version)?;
    if version.state == VersionState::Erased {
        return Err(Refusal::VersionState);
    }
    let subjects = [("version", document.version.to_string())];
    let event = given.event(EntryType::Withdrawn, subjects);
    let withdrawn = Version {
        state: VersionState::Withdrawn,
        ..version
    };
    Ok(Planned::new(given.change.put(&id, &withdrawn)?, event))
}

fn raise_floor(given: Given<'_, Floor>) -> Result<Planned, Refusal> {
    let mut model = given.own_model()?;
    let found = given.command.document().serial;
    if found <= model.floor {
        return Err(Refusal::FloorNotRising {
            found,
            floor: model.floor,
        });
    }
    model.floor = found;
    let event = given.event(EntryType::FloorRaised, [("serial", found.to_string())]);
    Ok(Planned::new(
        given.change.put(given.model.as_str(), &model)?,
        event,
    ))
}

fn set_channel(given: Given<'_, Channel>) -> Result<Planned, Refusal> {
    let mut model = given.own_model()?;
    let Channel {
        channel, serial, ..
    } = given.command.document();
    if *serial < model.floor {
        return Err(Refusal::BelowFloor {
            serial: *serial,
            floor: model.floor,
        });
    }
    let versions = given
        .ledger
        .vault
        .list::<Version>(&format!("{}/", given.model))?;
    let usable = |version: &Version| {
        version.register.serial == *serial && version.state == VersionState::Active
    };
    if !versions.iter().any(usable) {
        return Err(Refusal::UnknownVersion);
    }
    model.channels.insert(channel.clone(), *serial);
    let subjects = [
        ("channel", channel.to_string()),
        ("serial", serial.to_string()),
    ];
    let event = given.event(EntryType::ChannelSet, subjects);
    Ok(Planned::new(
        given.change.put(given.model.as_str(), &model)?,
        event,
    ))
}

fn install(given: Given<'_, Install>) -> Result<Planned, Refusal> {
    let document = given.command.document();
    let content = given.content.ok_or(Refusal::Malformed)?;
    let (digest, signer, root) = match document.content {
        InstallKind::InitTemplate => content_signer::<InitTemplate>(&given, content)?,
        InstallKind::ReferenceValues => content_signer::<ReferenceValues>(&given, content)?,
    };
    if digest != document.document_sha256 || root != *given.command.root() {
        return Err(Refusal::DifferentDocuments);
    }
    let kind = document.content;
    let record = Installed {
        kind,
        root,
        document: content.document.clone(),
        signer,
    };
    let event = given.event(
        EntryType::Installed,
        [("document_sha256", digest.to_string())],
    );
    Ok(Planned::new(
        given.change.put(&Installed::id(&root, &digest), &record)?,
        event,
    ))
}

fn content_signer<D: Document>(
    given: &Given<'_, Install>,
    content: &Approval,
) -> Result<(Digest, VerifyingKey, VerifyingKey), Refusal> {
    let (signed, root) = admin_signed::<D>(given.open.config(), content, given.now)?;
    Ok((signed.digest(), *signed.signer(), root))
}

/// Grants a user the use of a model, which may have no version yet: batches can wait for the
/// first one. Granting claims the model's name as registering does.
fn grant(given: Given<'_, Grant>) -> Result<Planned, Refusal> {
    let model = match given.own_model() {
        Err(Refusal::UnknownVersion) => Model::claimed_by(*given.command.root()),
        known => known?,
    };
    let grant = given.command.document().clone();
    let id = GrantRecord::id(grant.grant);
    if given.ledger.vault.get::<GrantRecord>(&id)?.is_some() {
        return Err(Refusal::GrantExists);
    }
    // One identity for each grant: what was encrypted for one user opens for no other.
    let identity = AgeIdentity::generate();
    let ack = given.open.sign(&GrantAck {
        grant: grant.grant,
        user_key: grant.user_key,
        model: grant.model.clone(),
        age_recipient: identity.recipient(),
        km_id: given.open.km_id.clone(),
    })?;
    let subjects = [
        ("grant", id.clone()),
        ("user_key", grant.user_key.thumbprint().to_string()),
        ("age_recipient", identity.recipient().to_string()),
    ];
    let event = given.event(EntryType::Granted, subjects);
    let record = GrantRecord {
        grant,
        root: *given.command.root(),
        ack: ack.clone(),
    };
    let secret = identity.to_secret_text();
    let change = given
        .change
        .put(given.model.as_str(), &model)?
        .put(&id, &record)?
        .put_secret(Table::GrantIdentities, &id, secret.as_bytes());
    Ok(Planned {
        change,
        event,
        grant_ack: Some(ack),
    })
}
