//! Players with PINs, and clients that are asked for them by a dialog: byte for byte as 1.21.6 and newer speak.

use postern::{clock::Clock, limit::Bans, pin::Pins, session::Store};
use secrecy::SecretString;
use uuid::Uuid;

use super::{
    Client, End, Mode, Player, Setup,
    scene::{MODERN, Scene},
    wire::{In, Out},
};

pub const CODE: &str = "Fjord1984";

/// What the dialog's text field is called in its answer.
pub const FIELD: &str = "pin";

/// A scene in which that player is known and has a PIN, in a new run that begins with the session server in that mode.
pub async fn scene_with_pin(
    auth: &str,
    change: impl FnOnce(Setup) -> Setup,
    name: &str,
    mode: Mode,
) -> (Scene, Player) {
    let mut scene = Scene::with(auth, change).await;
    let player = scene.make_known(name).await;
    (restart_with_pin(scene, &player, mode).await, player)
}

/// The same folder, a new run, and a PIN for that player.
pub async fn restart_with_pin(mut scene: Scene, player: &Player, mode: Mode) -> Scene {
    scene.proxy.stop().await;
    set_pin(&scene.setup, player.id, CODE).await;
    scene.sessions.set(mode);
    scene.audit = scene.setup.audit();
    let before = scene.audit.lines().len();
    scene.proxy = scene.setup.start().await;
    scene.audit.skip(before);
    scene
}

/// Sets a PIN while no proxy runs on this folder.
pub async fn set_pin(setup: &Setup, id: Uuid, code: &str) {
    let config = setup.load().unwrap_or_else(|report| panic!("{report}")).config;
    let (store, _) = Store::open(config.session.clone(), Clock::system()).await.unwrap();
    let bans = Bans::open(&config.limit.bans, Clock::system(), Box::new(|_| {})).unwrap();
    let pins = Pins::new(config.pins, store.clone(), bans);
    pins.set(id, &SecretString::from(code)).await.unwrap();
    store.close().await.unwrap();
}

/// What a client says of itself at the beginning of configuration.
pub fn brand() -> Out {
    Out::id(2).str("minecraft:brand").str("vanilla")
}

pub fn settings(view_distance: u8) -> Out {
    Out::id(0).str("en_us").raw(&[view_distance, 0, 1, 0x7f, 1, 0, 1, 0])
}

/// A dialog's button with that payload.
pub fn click(id: &str, payload: &[u8]) -> Out {
    Out::id(8).str(id).bytes(payload)
}

/// The button that hands in that code.
pub fn code(text: &str) -> Out {
    let length = |text: &str| (text.len() as u16).to_be_bytes();
    let mut nbt = vec![10, 8];
    nbt.extend(length(FIELD));
    nbt.extend(FIELD.as_bytes());
    nbt.extend(length(text));
    nbt.extend(text.as_bytes());
    nbt.push(0);
    click("postern:pin", &nbt)
}

pub fn leave() -> Out {
    // The game merges all inputs into what any button sends.
    let mut nbt = vec![10, 8, 0, FIELD.len() as u8];
    nbt.extend(FIELD.as_bytes());
    nbt.extend([0, 0, 0]);
    click("postern:leave", &nbt)
}

/// Ids of clear dialog and show dialog in configuration.
pub fn dialog_ids(protocol: i32) -> (u8, u8) {
    if protocol >= 777 { (0x12, 0x13) } else { (0x11, 0x12) }
}

/// Logs in up to login success, and says what a client says of itself behind it.
pub async fn begin(scene: &Scene, protocol: i32, player: &Player) -> Client {
    let (client, end) = scene.join(protocol, player).await;
    introduce(client, end, player).await
}

/// The same at that address, as a trusted proxy in front says.
pub async fn begin_from(scene: &Scene, source: &str, player: &Player) -> Client {
    let (client, end) = scene.join_from(source, MODERN, player).await;
    introduce(client, end, player).await
}

async fn introduce(mut client: Client, end: End, player: &Player) -> Client {
    let End::In { name, id, skin, encrypted: true, .. } = end else { panic!("{end:?}") };
    assert_eq!((name, id, skin), (player.name.clone(), player.id, Some(player.skin.clone())));
    client.send(brand()).await;
    client.send(settings(10)).await;
    client
}

/// The next packet that is no keep-alive; those are answered.
pub async fn next(client: &mut Client) -> Option<Vec<u8>> {
    loop {
        let packet = client.recv().await?;
        if packet[0] != 4 {
            return Some(packet);
        }
        client.send(Out::id(4).raw(&packet[1..])).await;
    }
}

/// The dialog that is shown next.
pub async fn dialog(client: &mut Client) -> String {
    let packet = next(client).await.expect("a dialog, not the end");
    assert_eq!(packet[0], dialog_ids(client.protocol).1, "{packet:02x?}");
    assert_eq!(packet[1], 10, "the dialog stands in the packet");
    String::from_utf8_lossy(&packet[2..]).into_owned()
}

/// The text of the disconnect in configuration, and whether a dialog was closed before it, in the way that makes the
/// client show it.
pub async fn refused(client: &mut Client) -> (String, bool) {
    let mut packet = next(client).await.expect("a disconnect, not the end");
    let cleared = packet[0] == dialog_ids(client.protocol).0;
    if cleared {
        let ping = next(client).await.expect("a ping");
        assert_eq!((ping[0], ping.len()), (5, 5));
        client.send(Out::id(5).raw(&ping[1..])).await;
        packet = next(client).await.expect("a disconnect behind the pong");
    }
    assert_eq!(packet[0], 2, "{packet:02x?}");
    assert!(matches!(packet[1], 8 | 10), "the text is NBT: {packet:02x?}");
    assert_eq!(next(client).await, None, "nothing behind it");
    (String::from_utf8_lossy(&packet[2..]).into_owned(), cleared)
}

/// What a cookie request asks for.
pub fn cookie_of(packet: &[u8]) -> String {
    assert_eq!(packet[0], 0);
    In(&packet[1..]).str()
}
