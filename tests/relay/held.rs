//! Those who are held until they prove a PIN, and what is left of that once they did.

use postern::{
    protocol::{
        command_tree::with_pin_commands,
        player_chat::{disguise, header},
    },
    relay::Heard,
};

use super::{plays::*, *};

#[tokio::test(start_paused = true)]
async fn held_clients_say_nothing_but_what_keeps_them_there() {
    for play in held_plays() {
        for how in [How::Plain, How::Stored, How::Deflated(6)] {
            let name = format!("{} {how:?}", play.protocol);
            let mut rig = play.setup(how, HELD).start();
            if let Some(configuration) = &play.reconfiguration {
                rig.up(&frame(&[3], how)).await;
                // The last one keeps the order: it passes.
                let mut ids: Vec<u8> = (0..0x20).collect();
                ids.push(0);
                let packets: Vec<(Vec<u8>, bool)> = ids
                    .into_iter()
                    .filter(|id| ![configuration.plugin, configuration.finished].contains(id))
                    .map(|id| (vec![id, 7, 7], configuration.allowed.contains(&id)))
                    .chain(channels(configuration.plugin, true))
                    .chain([(vec![0, 1, 2, 3], true)])
                    .collect();
                only_some_arrive(&mut rig, &packets, how, &name).await;
                play.finish(&mut rig, configuration, how).await;
            }
            play.join(&mut rig, how).await;
            let said = [play.chat, play.suggestions];
            let said: Vec<u8> = said
                .into_iter()
                .chain(play.command)
                .chain(play.signed_command)
                .chain([play.plugin])
                .collect();
            let acknowledged = play.reconfiguration.as_ref().map(|ids| ids.acknowledged);
            let packets: Vec<(Vec<u8>, bool)> = (0..=0xff_u8)
                .filter(|id| !said.contains(id) && Some(*id) != acknowledged)
                .map(|id| {
                    let packet = [varint(id.into(), 1), vec![id; 300]].concat();
                    (packet, play.allowed.contains(&id))
                })
                .chain(channels(play.plugin, false))
                .chain([
                    (play.says("hello", false, 0), false),
                    (play.commands("help", false, 0), false),
                    (play.asks_for_suggestions("/help"), false),
                    (vec![play.allowed[0], 1, 2, 3], true),
                ])
                .collect();
            only_some_arrive(&mut rig, &packets, how, &name).await;
            assert!(!rig.handle.is_out_of_tune(), "{name}");

            // Free, it says what it likes.
            rig.handle.release();
            yield_now().await;
            for packet in [play.says("hello", true, 0), vec![play.movement, 1, 2], vec![0x7f; 500]] {
                rig.up(&frame(&packet, how)).await;
            }
            rig.up(&frame(&plugin_message(play.plugin, "some:thing", b"x"), how)).await;
            rig.client.send(&frame(&plugin_message(play.plugin, "BungeeCord", b"x"), how)).await;
            rig.up(&frame(&plugin_message(play.plugin, "minecraft:brand", b"x"), how)).await;
        }
    }
}

/// Plugin messages, and whether they pass.
fn channels(id: u8, configuration: bool) -> Vec<(Vec<u8>, bool)> {
    [
        ("minecraft:brand", true),
        ("minecraft:register", true),
        ("MC|Brand", true),
        ("FML|HS", true),
        ("fml:handshake", true),
        ("forge:handshake", true),
        ("c:register", true),
        ("neoforge:network", configuration),
        ("BungeeCord", false),
        ("velocity:player_info", false),
        ("some:thing", false),
        ("minecraft:brandy", false),
    ]
    .into_iter()
    .map(|(channel, passes)| (plugin_message(id, channel, &[5; 300]), passes))
    .collect()
}

async fn only_some_arrive(rig: &mut Rig, packets: &[(Vec<u8>, bool)], how: How, name: &str) {
    let frames: Vec<(Vec<u8>, bool)> =
        packets.iter().map(|(packet, passes)| (frame(packet, how), *passes)).collect();
    let sent: Vec<u8> = frames.iter().flat_map(|(frame, _)| frame.clone()).collect();
    let expected: Vec<u8> =
        frames.iter().filter(|(_, passes)| *passes).flat_map(|(frame, _)| frame.clone()).collect();
    rig.client.send(&sent).await;
    let got = timeout(Duration::from_secs(5), rig.backend_reads(expected.len())).await.expect(name);
    assert!(got == expected, "{name}");
}

#[tokio::test(start_paused = true)]
async fn before_it_acknowledges_a_held_client_answers_nothing_but_cookies() {
    for play in held_plays().filter(|play| play.reconfiguration.is_some()) {
        for how in [How::Plain, How::Stored, How::Deflated(6)] {
            let name = format!("{} {how:?}", play.protocol);
            let mut rig = play.setup(how, HELD).start();
            let answers = |len| [&[2, 7, 1][..], &vec![b'A'; len]].concat();
            let cookie = [&[4][..], &text("some:key"), &[0]].concat();
            let mut packets = vec![(answers(5000), false), (answers(0), false), (answers(1 << 20), false)];
            packets.extend((play.protocol >= 766).then_some((cookie, true)));
            packets.push((vec![3], true));
            only_some_arrive(&mut rig, &packets, how, &name).await;
            // It is in configuration now.
            let configuration = play.reconfiguration.as_ref().unwrap();
            only_some_arrive(&mut rig, &channels(configuration.plugin, true), how, &name).await;
            play.finish(&mut rig, configuration, how).await;

            // What it cannot send at all then ends the connection, as with anybody.
            let mut rig = play.setup(how, HELD).start();
            rig.client.send(&frame(&[0, 1, 2], how)).await;
            assert!(is_malformed(&rig.ended().await, Side::Client), "{name}");
        }
    }
}

/// A line of 1.19.1 and 1.19.2 as the server passes it on: nothing was signed before it.
fn line_of_760() -> Vec<u8> {
    let signed = [&[0x33, 0][..], &[0x11; 16], &varint(256, 1), &[7; 256]].concat();
    let said = [&text("hello")[..], &[0], &[9; 16], &[0, 0, 0]].concat();
    let shown = [&[0][..], &text("{\"text\":\"Somebody\"}"), &[0]].concat();
    [signed, said, shown].concat()
}

/// Compression thresholds of client and backend.
const THRESHOLDS: [(Option<usize>, Option<usize>); 4] =
    [(None, None), (Some(256), Some(256)), (Some(256), None), (None, Some(256))];

/// A frame of a stream with this threshold; compressed wherever it can be.
fn natural(packet: &[u8], threshold: Option<usize>) -> Vec<u8> {
    frame(packet, if threshold.is_some() { How::Deflated(6) } else { How::Plain })
}

/// A held client in the world.
async fn held_between(play: &Play, (client, backend): (Option<usize>, Option<usize>)) -> Rig {
    let thresholds = Some((client, backend));
    let setup = Setup { thresholds, terms: HELD, encrypted: true, ..Setup::new(play.protocol) };
    let mut rig = setup.start();
    if let Some(configuration) = &play.reconfiguration {
        rig.client.send(&natural(&[3], client)).await;
        rig.backend.write_all(&natural(&[configuration.finish], backend)).await.unwrap();
        rig.client_frames(1, client).await;
        rig.client.send(&natural(&[configuration.finished], client)).await;
        rig.backend_frames(2, backend).await;
    }
    rig.backend.write_all(&natural(&[&[play.login][..], &[0x55; 300]].concat(), backend)).await.unwrap();
    rig.client_frames(1, client).await;
    rig
}

/// What a held client may begin to say, and what the backend gets if it is free before the end of that.
fn begun_up(play: &Play) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let passes = |packet: Vec<u8>| (packet.clone(), Some(packet));
    let mut cases = vec![
        // It is free when it has said it.
        passes(play.says("hello", false, 0)),
        passes(play.says("hello", true, 2)),
        passes(play.commands("help", false, 0)),
        passes(play.asks_for_suggestions("/help")),
        passes(vec![play.allowed[0], 1, 2, 3]),
        (play.asks_for_suggestions("/pin 12"), None),
        // The beginning of these was left out.
        (vec![play.movement, 1, 2, 3], None),
        (plugin_message(play.plugin, "some:thing", &[5; 300]), None),
    ];
    let seen = play.signed_command.is_none().then(|| play.ack.map(|id| vec![id, 3])).flatten();
    cases.push((play.commands("pin 1234", false, 3), seen));
    cases
}

/// What a backend may begin to say to a held client, and what that gets if it is free before the end of that.
fn begun_down(play: &Play) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let other = vec![0x7c; 700];
    let mut cases =
        vec![(other.clone(), Some(other)), (plugin_message(play.plugin_down, "some:thing", &[5; 300]), None)];
    if play.tree.is_some() {
        let tree = play.tree(&noise(3000), 0);
        let ours = with_pin_commands(&play.dialect(), &tree).unwrap();
        cases.push((tree, Some(ours)));
    }
    if play.protocol == 760 {
        // With what is signed in it the client can check the next one: it is shown, or a header stands in for it.
        cases.push((line_of_760(), Some(line_of_760())));
    }
    if play.chat_down.is_some() {
        let line = play.player_chat("hello", Some(1));
        let shown = disguise(&play.dialect(), &line).unwrap();
        cases.push((line, Some(shown)));
        cases.push((play.player_chat("hello", None), None));
    }
    cases
}

#[tokio::test(start_paused = true)]
async fn what_began_while_it_was_held_may_end_when_it_is_free() {
    for play in held_plays() {
        for (client, backend) in THRESHOLDS {
            for (packet, got) in begun_up(play) {
                let name = format!("{} {client:?} {backend:?} {:x?}", play.protocol, &packet[..2]);
                let mut rig = held_between(play, (client, backend)).await;
                let sent = natural(&packet, client);
                let (begun, rest) = sent.split_at(sent.len() - 1);
                rig.client.send(begun).await;
                sleep(Duration::from_millis(1)).await;
                rig.handle.release();
                let last = vec![play.movement, 0x22, 0x22];
                rig.client.send(&[rest, &natural(&last, client)].concat()).await;
                let expected: Vec<Vec<u8>> = got.into_iter().chain([last]).collect();
                let arrived = rig.backend_frames(expected.len(), backend);
                let arrived = timeout(Duration::from_secs(5), arrived).await.expect(&name);
                assert!(packets(&arrived, backend) == expected, "{name}");
                if packet == play.commands("pin 1234", false, 3) {
                    assert_eq!(heard_command(rig.hears().await).1, "1234", "{name}");
                }
                assert!(rig.hears_nothing().await, "{name}");
            }
            for (packet, got) in begun_down(play) {
                let name = format!("{} {client:?} {backend:?} {:x?}", play.protocol, &packet[..2]);
                let mut rig = held_between(play, (client, backend)).await;
                let sent = natural(&packet, backend);
                let (begun, rest) = sent.split_at(sent.len() - 1);
                rig.backend.write_all(begun).await.unwrap();
                sleep(Duration::from_millis(1)).await;
                rig.handle.release();
                sleep(Duration::from_millis(1)).await;
                let last = vec![0x7e; 33];
                rig.backend.write_all(&[rest, &natural(&last, backend)].concat()).await.unwrap();
                let expected: Vec<Vec<u8>> = got.into_iter().chain([last]).collect();
                let arrived = rig.client_frames(expected.len(), client);
                let arrived = timeout(Duration::from_secs(5), arrived).await.expect(&name);
                assert!(packets(&arrived, client) == expected, "{name}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn lines_of_others_keep_their_chain_over_the_end_of_a_quarantine() {
    let play = held_plays().find(|play| play.protocol == 760).unwrap();
    for (client, backend) in THRESHOLDS {
        let mut rig = held_between(play, (client, backend)).await;
        let header = header(&play.dialect(), &line_of_760()).unwrap();
        rig.backend.write_all(&natural(&line_of_760(), backend)).await.unwrap();
        let got = rig.client_frames(1, client).await;
        assert!(packets(&got, client) == [header]);
        // What the client said breaks its own chain, and no other's.
        rig.client.send(&natural(&play.says("hello", true, 0), client)).await;
        let line = natural(&line_of_760(), backend);
        rig.backend.write_all(&line[..line.len() - 1]).await.unwrap();
        sleep(Duration::from_millis(1)).await;
        assert!(rig.handle.is_out_of_tune());
        rig.handle.release();
        sleep(Duration::from_millis(1)).await;
        rig.backend.write_all(&line[line.len() - 1..]).await.unwrap();
        let got = timeout(Duration::from_secs(5), rig.client_frames(1, client)).await.unwrap();
        assert!(packets(&got, client) == [line_of_760()]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_began_before_a_closing_reaches_nobody() {
    for play in held_plays() {
        for (client, backend) in THRESHOLDS {
            let pin = play.commands("pin 1234", false, 3);
            for packet in [pin.clone(), play.says("hello", true, 2), vec![play.movement, 1, 2]] {
                let name = format!("{} {client:?} {backend:?}", play.protocol);
                let mut rig = held_between(play, (client, backend)).await;
                let sent = natural(&packet, client);
                rig.client.send(&sent[..sent.len() - 1]).await;
                sleep(Duration::from_millis(1)).await;
                rig.handle.close(Text::plain("bye"));
                rig.client.send(&sent[sent.len() - 1..]).await;
                let told = packets(&rig.client.read_to_end().await, client);
                assert!(told.len() == 1 && contains(&told[0], "bye"), "{name}");
                let mut rest = Vec::new();
                rig.backend.read_to_end(&mut rest).await.unwrap();
                assert!(rest.is_empty(), "{name}");
                assert!(rig.hears_nothing().await, "{name}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_client_says_when_its_backend_calls_it_back_is_still_of_the_play_state() {
    for play in held_plays().filter(|play| play.reconfiguration.is_some()) {
        let configuration = play.reconfiguration.as_ref().unwrap();
        for (client, backend) in THRESHOLDS {
            for free in [false, true] {
                let name = format!("{} {client:?} {backend:?} {free}", play.protocol);
                let mut rig = held_between(play, (client, backend)).await;
                let line = play.says("hello", true, 2);
                let sent = natural(&line, client);
                rig.client.send(&sent[..sent.len() - 1]).await;
                rig.backend.write_all(&natural(&[configuration.start], backend)).await.unwrap();
                rig.client_frames(1, client).await;
                if free {
                    rig.handle.release();
                    sleep(Duration::from_millis(1)).await;
                }
                rig.client.send(&sent[sent.len() - 1..]).await;
                rig.client.send(&natural(&[configuration.acknowledged], client)).await;
                let got = timeout(Duration::from_secs(5), rig.backend_frames(2, backend)).await.expect(&name);
                let said = if free { line } else { play.acknowledges(2) };
                assert!(packets(&got, backend) == [said, vec![configuration.acknowledged]], "{name}");
                // The chain that it broke is over.
                assert!(!rig.handle.is_out_of_tune(), "{name}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn held_clients_hear_nobody_else() {
    for play in held_plays() {
        for how in [How::Plain, How::Stored, How::Deflated(6)] {
            let mut rig = play.setup(how, HELD).start();
            play.enter(&mut rig, how).await;
            let spoken: &[Vec<u8>] = &match play.protocol {
                // Up to 1.15.2 nothing tells who speaks.
                47 | 340 | 393 => vec![
                    [&[old_chat(play)][..], &text("{}"), &[0]].concat(),
                    [&[old_chat(play)][..], &text("{}"), &[1]].concat(),
                ],
                758 => vec![
                    [&[old_chat(play)][..], &text("{}"), &[0], &[0; 16]].concat(),
                    [&[old_chat(play)][..], &text("{}"), &[1], &[4; 16]].concat(),
                ],
                759 => vec![[&[0x30][..], &[1; 300]].concat()],
                760 => vec![[&[0x33][..], &[1; 300]].concat(), [&[0x18][..], &[1; 300]].concat()],
                _ => {
                    let [_, disguised, deleted] = play.chat_down.unwrap();
                    vec![
                        play.player_chat("hello", Some(1)),
                        play.player_chat("hello", None),
                        [&[disguised][..], &[1; 300]].concat(),
                        [&[deleted][..], &[1; 300]].concat(),
                    ]
                }
            };
            let secret = plugin_message(play.plugin_down, "some:thing", &[5; 300]);
            for packet in spoken.iter().chain([&secret]) {
                rig.down_becomes(&frame(packet, how), &[], how, &format!("{} {how:?}", play.protocol)).await;
            }
            for packet in match play.protocol {
                47 | 340 | 393 => vec![[&[old_chat(play)][..], &text("{}"), &[2]].concat()],
                758 => vec![[&[old_chat(play)][..], &text("{}"), &[1], &[0; 16]].concat()],
                _ => vec![vec![0x7c; 700]],
            } {
                rig.down(&frame(&packet, how)).await;
            }
            rig.down(&frame(&plugin_message(play.plugin_down, "minecraft:brand", &[5; 300]), how)).await;
            // Lines of our own reach it.
            rig.handle.chat(&Text::plain("enter your PIN"));
            let threshold = (!matches!(how, How::Plain)).then_some(256);
            let line = rig.client_frames(1, threshold).await;
            assert!(contains(&line, "enter your PIN"));
            // It is not moved elsewhere, nor given anything to keep.
            let moved: &[[u8; 2]] = match play.protocol {
                766 => &[[0x6b, 0x73]],
                769 => &[[0x72, 0x7a]],
                770 => &[[0x71, 0x7a]],
                _ => &[],
            };
            for id in moved.concat() {
                rig.down_becomes(&frame(&[id; 40], how), &[], how, "moved").await;
            }
            rig.handle.release();
            yield_now().await;
            rig.down(&frame(&secret, how)).await;
            for id in moved.concat() {
                rig.down(&frame(&[id; 40], how)).await;
            }
            if play.chat_down.is_none() {
                for packet in spoken {
                    rig.down(&frame(packet, how)).await;
                }
            }
        }
    }
}

fn old_chat(play: &Play) -> u8 {
    match play.protocol {
        47 => 0x02,
        340 | 758 => 0x0f,
        _ => 0x0e,
    }
}

#[tokio::test(start_paused = true)]
async fn held_clients_are_kept_from_cookies_and_transfers_in_configuration() {
    for play in held_plays() {
        let Some(configuration) = &play.reconfiguration else { continue };
        let mut rig = play.setup(How::Stored, HELD).start();
        rig.up(&frame(&[3], How::Stored)).await;
        if play.protocol >= 766 {
            for id in [0x0a, 0x0b] {
                rig.down_becomes(&frame(&[id; 30], How::Stored), &[], How::Stored, "moved").await;
            }
        }
        let id = configuration.plugin_down;
        let message = plugin_message(id, "some:thing", b"x");
        rig.down_becomes(&frame(&message, How::Stored), &[], How::Stored, "plugin").await;
        rig.down(&frame(&plugin_message(id, "minecraft:brand", b"x"), How::Stored)).await;
        rig.down(&frame(&plugin_message(id, "neoforge:register", b"x"), How::Stored)).await;
        rig.down(&frame(&[7; 3000], How::Deflated(6))).await;
    }
}

#[tokio::test(start_paused = true)]
async fn signed_chat_that_is_withheld_is_acknowledged_and_later_shown_unsigned() {
    for play in held_plays().filter(|play| play.chat_down.is_some()) {
        for how in [How::Plain, How::Stored, How::Deflated(6)] {
            let name = format!("{} {how:?}", play.protocol);
            let [_, _, deleted] = play.chat_down.unwrap();
            let mut rig = play.setup(how, HELD).start();
            play.enter(&mut rig, how).await;
            // Three lines, one of them sent twice in a row and counted once; one that is not signed.
            for (words, signature) in
                [("a", Some(1)), ("b", Some(2)), ("b", Some(2)), ("c", None), ("d", Some(1))]
            {
                rig.down_becomes(&frame(&play.player_chat(words, signature), how), &[], how, &name).await;
            }
            let alive = frame(&[play.allowed[0], 1, 2, 3], how);
            rig.client.send(&alive.repeat(2)).await;
            let ack = |count| ours(&play.acknowledges(count), how);
            let expected = [&alive[..], &ack(3), &alive].concat();
            let got = timeout(Duration::from_secs(5), rig.backend_reads(expected.len())).await;
            assert!(got.expect(&name) == expected, "{name}");

            rig.handle.release();
            yield_now().await;
            let line = play.player_chat("hello", Some(9));
            let shown = disguise(&play.dialect(), &line).unwrap();
            assert!(contains(&shown, "hello") && contains(&shown, "Somebody"), "{name}");
            rig.down_becomes(&frame(&line, how), &ours(&shown, how), how, &name).await;
            rig.down_becomes(&frame(&[&[deleted][..], &[1; 300]].concat(), how), &[], how, &name).await;
            let movement = frame(&[play.movement, 1, 2, 3], how);
            rig.client.send(&movement.repeat(2)).await;
            let expected = [&movement[..], &ack(1), &movement].concat();
            let got = timeout(Duration::from_secs(5), rig.backend_reads(expected.len())).await;
            assert!(got.expect(&name) == expected, "{name}");
            // What nobody signed is shown alike, and nothing is acknowledged for it.
            let line = play.player_chat("hello", None);
            let shown = disguise(&play.dialect(), &line).unwrap();
            rig.down_becomes(&frame(&line, how), &ours(&shown, how), how, &name).await;
            rig.up(&movement.repeat(2)).await;

            if play.reconfiguration.is_some() {
                play.start_anew(&mut rig, how).await;
                rig.down(&frame(&play.player_chat("hello", Some(3)), how)).await;
                rig.down(&frame(&[&[deleted][..], &[1; 300]].concat(), how)).await;
                rig.up(&movement.repeat(2)).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_heard_nobody_while_held_gets_chat_as_it_is() {
    for play in held_plays().filter(|play| play.chat_down.is_some()) {
        let mut rig = play.setup(How::Stored, HELD).start();
        play.enter(&mut rig, How::Stored).await;
        rig.handle.release();
        yield_now().await;
        rig.down(&frame(&play.player_chat("hello", Some(3)), How::Stored)).await;
        rig.up(&frame(&[play.movement, 1, 2, 3], How::Stored).repeat(3)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_held_client_signed_breaks_its_chain() {
    for play in held_plays().filter(|play| play.command.is_some()) {
        for how in [How::Plain, How::Deflated(6)] {
            let name = format!("{} {how:?}", play.protocol);
            // Each line of 1.19 is signed for itself.
            let chains = play.protocol > 759;
            let ack = |count| if play.is_counted() { ours(&play.acknowledges(count), how) } else { vec![] };
            let mut rig = play.setup(how, HELD).start();
            play.enter(&mut rig, how).await;
            let alive = frame(&[play.allowed[0], 1, 2, 3], how);
            let said = frame(&play.says("hello", true, 2), how);
            rig.client.send(&[&said[..], &alive].concat()).await;
            let expected = [&ack(2)[..], &alive].concat();
            assert!(rig.backend_reads(expected.len()).await == expected, "{name}");
            assert_eq!(rig.handle.is_out_of_tune(), chains, "{name}");
            rig.client.send(&frame(&play.commands("pin 1234", false, 0), how)).await;
            assert_eq!(heard_command(rig.hears().await).1, "1234");

            rig.handle.release();
            yield_now().await;
            if chains {
                rig.up_becomes(play, &said, &ack(2), how).await;
                assert!(matches!(rig.hears().await, Heard::Unsaid), "{name}");
                let command = frame(&play.commands("msg Friend hello", true, 4), how);
                rig.up_becomes(play, &command, &ack(4), how).await;
                assert!(matches!(rig.hears().await, Heard::Unsaid), "{name}");
            } else {
                rig.up(&said).await;
            }
            // What is not signed was never part of it.
            rig.up(&frame(&play.commands("help", false, 0), how)).await;
            rig.up(&frame(&play.asks_for_suggestions("/help"), how)).await;
            rig.client.send(&frame(&play.commands("pin 1234", false, 0), how)).await;
            assert_eq!(heard_command(rig.hears().await).1, "1234");
            if play.reconfiguration.is_some() {
                play.start_anew(&mut rig, how).await;
                assert!(!rig.handle.is_out_of_tune(), "{name}");
                rig.up(&said).await;
            }
            assert!(rig.hears_nothing().await, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_commands_of_a_held_client_are_heard_byte_by_byte() {
    for play in held_plays() {
        for how in HOWS {
            let mut rig = Setup { capacity: 16, ..play.setup(how, HELD) }.start();
            let Rig { client, backend, handle, .. } = &mut rig;
            let alive = frame(&[play.allowed[0], 1, 2, 3], how);
            let sent = [
                frame(&play.says("hello", false, 0), how),
                alive.clone(),
                frame(&play.commands("pin 1234", false, 0), how),
                frame(&[play.movement, 9, 9], how),
                alive.clone(),
            ]
            .concat();
            let mut got = Vec::new();
            if let Some(configuration) = &play.reconfiguration {
                let acknowledged = frame(&[3], how);
                client.send(&acknowledged).await;
                let finish = frame(&[configuration.finish], how);
                let finished = frame(&[configuration.finished], how);
                backend.write_all(&finish).await.unwrap();
                client.read(finish.len()).await;
                client.send(&finished).await;
                let mut room = vec![0; acknowledged.len() + finished.len()];
                backend.read_exact(&mut room).await.unwrap();
            }
            let sending = async {
                for byte in &sent {
                    client.send(&[*byte]).await;
                    yield_now().await;
                }
                handle.heard().await
            };
            let mut read = async || {
                let mut byte = [0];
                backend.read_exact(&mut byte).await.unwrap();
                got.push(byte[0]);
            };
            let reading = async {
                for _ in 0..2 * alive.len() {
                    read().await;
                }
            };
            let (heard, ()) = tokio::join!(sending, reading);
            assert_eq!(heard_command(heard).1, "1234");
            assert!(got == alive.repeat(2), "{} {how:?}", play.protocol);
        }
    }
}
