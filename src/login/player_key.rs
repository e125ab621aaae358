//! The key that an admitted player of 1.19 to 1.19.2 brought: whether its backend may be told of it.

use tracing::debug;

use super::{Admission, Named};
use crate::{
    mojang::player_keys::{Claim, KeyDoubt, PlayerKeys},
    protocol::version::KeyBinding,
};

/// Proves the key to be Mojang's word about this player, by the admitted id and never the claimed one, and notes in
/// the facts what came of it. A doubt keeps nobody out: the backend is told of no key then.
pub(super) async fn prove(admission: &mut Admission, keys: &PlayerKeys) {
    let id = admission.admitted.profile().id;
    let proven = match claim(&mut admission.named, id) {
        Some(Ok(claim)) => keys.prove(claim).await,
        Some(Err(doubt)) => Err(doubt),
        None => return,
    };
    let outcome = match &proven {
        Ok(_) => "proven",
        Err(doubt) => {
            let name = admission.named.name.as_str();
            debug!(player = name, %id, "its backend is not told of the key it signs chat with: {doubt}");
            doubt.label()
        }
    };
    admission.facts.insert("player_key".to_owned(), outcome.into());
    admission.player_key = proven.ok();
}

/// Takes the key and says what is to be proven of it; `None` if there is no key.
fn claim(named: &mut Named, id: uuid::Uuid) -> Option<Result<Claim, KeyDoubt>> {
    let key = named.key.take()?;
    Some(match named.hello.dialect.key_binding()? {
        KeyBinding::Nobody => named.held_key.take().map(Claim::Held).ok_or(KeyDoubt::NotHeld),
        KeyBinding::Player => Ok(Claim::BelongsTo(key, id)),
    })
}
