//! What players say about PINs, and the commands they know.

use postern::{
    protocol::{command_tree::with_pin_commands, pin_command::PinCommand},
    relay::Heard,
};

use super::{plays::*, *};

#[tokio::test(start_paused = true)]
async fn commands_about_pins_are_taken_and_nothing_else() {
    for play in &PLAYS {
        for how in HOWS {
            for bytewise in [false, true] {
                let name = format!("{} {how:?} {bytewise}", play.protocol);
                let mut rig = play.setup(how, PINS).start();
                play.enter(&mut rig, how).await;
                let ack =
                    |count| if play.is_counted() { ours(&play.acknowledges(count), how) } else { vec![] };
                // Before 1.20.5 all commands count lines, since then only those that may be signed.
                let command_ack = |count| if play.signed_command.is_none() { ack(count) } else { vec![] };
                let passes = |packet: Vec<u8>| (frame(&packet, how), frame(&packet, how));
                let steps = [
                    passes(play.says("hello", true, 2)),
                    (frame(&play.commands("pin 1234", false, 3), how), command_ack(3)),
                    passes(play.commands("pinned 1234", false, 1)),
                    (frame(&play.asks_for_suggestions("/setpin 12"), how), vec![]),
                    passes(play.asks_for_suggestions("/set")),
                    (frame(&play.commands("  Minecraft:SETPIN   abc  ", false, 0), how), vec![]),
                    passes(plugin_message(play.plugin, "some:thing", &[1; 300])),
                    (frame(&play.commands("resetpin", false, 0), how), vec![]),
                    passes([&[play.movement][..], &[0x22; 600]].concat()),
                ];
                let sent: Vec<u8> = steps.iter().flat_map(|(sent, _)| sent.clone()).collect();
                let expected: Vec<u8> = steps.iter().flat_map(|(_, got)| got.clone()).collect();
                if bytewise {
                    for byte in &sent {
                        rig.client.send(&[*byte]).await;
                        yield_now().await;
                    }
                } else {
                    rig.client.send(&sent).await;
                }
                let got = timeout(Duration::from_secs(5), rig.backend_reads(expected.len())).await;
                assert!(got.expect(&name) == expected, "{name}");
                for (command, words) in
                    [(PinCommand::Pin, "1234"), (PinCommand::SetPin, "abc"), (PinCommand::ResetPin, "")]
                {
                    assert_eq!(heard_command(rig.hears().await), (command, words.to_owned()), "{name}");
                }
                assert!(rig.hears_nothing().await, "{name}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_pins_all_that_is_said_passes() {
    for play in &PLAYS {
        let mut rig = play.setup(How::Stored, TERMS).start();
        play.enter(&mut rig, How::Stored).await;
        rig.up(&frame(&play.commands("pin 1234", false, 3), How::Stored)).await;
        rig.up(&frame(&play.asks_for_suggestions("/setpin 1"), How::Stored)).await;
        if play.tree.is_some() {
            rig.down(&frame(&play.tree(&noise(3000), 0), How::Deflated(6))).await;
        }
        assert!(rig.hears_nothing().await);
        // Nor is it held, for anybody to release.
        rig.handle.release();
        rig.up(&frame(&play.says("hello", true, 3), How::Stored)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_signed_command_about_pins_is_acknowledged_and_breaks_the_chain() {
    for play in PLAYS.iter().filter(|play| play.command.is_some()) {
        let how = How::Deflated(6);
        let mut rig = play.setup(how, PINS).start();
        play.enter(&mut rig, how).await;
        let ack = |count| if play.is_counted() { ours(&play.acknowledges(count), how) } else { vec![] };
        rig.up_becomes(play, &frame(&play.commands("pin 1234", true, 5), how), &ack(5), how).await;
        assert_eq!(heard_command(rig.hears().await).1, "1234");
        // Each line of 1.19 is signed for itself.
        let chains = play.protocol > 759;
        assert_eq!(rig.handle.is_out_of_tune(), chains, "{}", play.protocol);
        let line = frame(&play.says("hello", true, 1), how);
        let got = if chains { ack(1) } else { line.clone() };
        rig.up_becomes(play, &line, &got, how).await;
        if chains {
            assert!(matches!(rig.hears().await, Heard::Unsaid));
        }
        assert!(rig.hears_nothing().await);
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_a_command_of_the_game_ends_the_connection_and_does_not_pass() {
    let play = &PLAYS[1];
    for packet in [
        play.says(&format!("/pin {}", "1".repeat(40_000)), false, 0),
        [&play.says("/pin 1234", false, 0)[..], &[0]].concat(),
        play.says("/pin 1234", false, 0)[..5].to_vec(),
    ] {
        for how in HOWS {
            let mut rig = play.setup(how, PINS).start();
            play.enter(&mut rig, how).await;
            rig.client.send(&frame(&packet, how)).await;
            let mut rest = Vec::new();
            rig.backend.read_to_end(&mut rest).await.unwrap();
            assert!(rest.is_empty());
            assert!(is_malformed(&rig.ended().await, Side::Client));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn commands_that_nobody_attends_to_are_bounded() {
    let play = &PLAYS[10];
    let mut rig = play.setup(How::Plain, PINS).start();
    play.enter(&mut rig, How::Plain).await;
    for nth in 0..50 {
        let command = frame(&play.commands(&format!("pin {nth}"), false, 0), How::Plain);
        rig.up_becomes(play, &command, &[], How::Plain).await;
    }
    // And all at once.
    let flood = frame(&play.commands("pin 1234", false, 0), How::Plain).repeat(3000);
    rig.up_becomes(play, &flood, &[], How::Plain).await;
    let mut heard = 0;
    while let Ok(command) = timeout(Duration::from_secs(1), rig.handle.heard()).await {
        assert_eq!(heard_command(command).1, heard.to_string(), "the newest are lost");
        heard += 1;
    }
    assert!((1..10).contains(&heard), "{heard}");
}

#[tokio::test]
async fn what_is_replaced_in_one_turn_is_bounded_by_its_length() {
    unconstrained(async {
        let waker = Waker::from(Arc::<Woken>::default());
        let play = &PLAYS[1];
        let command = |len: usize| play.says(&format!("/pin {}", "1".repeat(len)), false, 0);
        // Of hardly any bytes on the wire: long commands, short ones, and what is framed anew.
        for (packet, backend, a_turn) in
            [(command(8000), Some(64), 9), (command(100), Some(64), 64), (vec![0x7e; 100_000], None, 1)]
        {
            let name = format!("{} bytes", packet.len());
            let thresholds = Some((Some(64), backend));
            let setup = Setup { terms: PINS, thresholds, capacity: 8 << 20, ..Setup::new(play.protocol) };
            let mut rig = setup.start_with(|run| run);
            // What passes behind the last of them shows that all were seen.
            let last = [play.movement, 0x22, 0x22];
            let sent = frame(&packet, How::Deflated(6)).repeat(3 * a_turn);
            rig.client.send(&[sent, frame(&last, How::Stored)].concat()).await;
            let mut got = Vec::new();
            for turns in 1..=4 {
                assert!(!got.ends_with(&last), "{name}, {turns}");
                assert!(turn(&mut rig.run, &waker).await.is_pending(), "{name}");
                let mut room = vec![0; 1 << 20];
                let mut reading = Box::pin(rig.backend.read(&mut room));
                if let Poll::Ready(len) = turn(&mut reading, &waker).await {
                    drop(reading);
                    got.extend_from_slice(&room[..len.unwrap()]);
                }
            }
            assert!(got.ends_with(&last), "{name}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_tree_gets_our_commands() {
    for play in PLAYS.iter().filter(|play| play.tree.is_some()) {
        for how in HOWS {
            let name = format!("{} {how:?}", play.protocol);
            let mut rig = play.setup(how, PINS).start();
            play.enter(&mut rig, how).await;
            let threshold = (!matches!(how, How::Plain)).then_some(256);
            let tree = |len: usize, root| play.tree(&noise(len), root);
            // Larger than a buffer; another one soon behind it, however long; much later those of like length, or those
            // that can be read as they are. And whatever comes between passes as it is.
            let plain = !matches!(how, How::Deflated(_));
            let late = [(40_000, plain), (5000, plain), (19_500, true)];
            let trees =
                [(20_000, true), (40_000, true), (5000, true), (19_000, true)].into_iter().chain(late);
            for (index, (len, rewritten)) in trees.enumerate() {
                if index == 4 {
                    rig.down(&frame(&[0x7d; 40], how).repeat(2048)).await;
                }
                let packet = tree(len, 0);
                let (before, after) = (frame(&vec![0x7e; 20_100], how), frame(&[0x7d; 40], how));
                let bytes = [&before[..], &frame(&packet, how), &after].concat();
                rig.backend.write_all(&bytes[..before.len() + 900]).await.unwrap();
                assert!(rig.client.read(before.len()).await == before, "{name}");
                // Asked for while the tree is under way.
                rig.handle.chat(&Text::plain("a line"));
                yield_now().await;
                rig.backend.write_all(&bytes[before.len() + 900..]).await.unwrap();
                let got = rig.client_frames(3, threshold).await;
                let (seen, rest) = split(&got, threshold);
                assert!(rest.is_empty(), "{name}");
                let expected = with_pin_commands(&play.dialect(), &packet).unwrap();
                assert!(expected != packet);
                assert!(seen[0].1 == if rewritten { expected } else { packet }, "{name} {len}");
                assert!(contains(&seen[1].1, "a line"), "{name}");
                assert!(seen[2].0 == after, "{name}");
            }
            // Nobody we know writes the root elsewhere.
            rig.down(&frame(&tree(20_000, 2), how)).await;
            if play.reconfiguration.is_some() {
                play.start_anew(&mut rig, how).await;
                rig.down(&frame(&vec![0x7e; 20_000], how)).await;
                rig.backend.write_all(&frame(&tree(40_000, 0), how)).await.unwrap();
                let expected = with_pin_commands(&play.dialect(), &tree(40_000, 0)).unwrap();
                let got = rig.client_frames(1, threshold).await;
                assert!(packets(&got, threshold) == [expected], "{name}");
            }
        }
    }
}

/// A frame whose compressed content states a length.
fn lying(stated: usize, packet: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(varint(stated, 1), Compression::new(6));
    encoder.write_all(packet).unwrap();
    let content = encoder.finish().unwrap();
    [varint(content.len(), 1), content].concat()
}

#[tokio::test(start_paused = true)]
async fn trees_that_cannot_be_read_are_the_clients_to_judge() {
    let play = &PLAYS[12];
    let tree = play.tree(&vec![0x33; 30_000], 0);
    let mut broken = frame(&[&tree[..1], &noise(30_000)].concat(), How::Deflated(6));
    let last = broken.len() - 1;
    broken[last] ^= 0xff;
    for (name, bytes) in [
        ("broken behind its beginning", broken),
        ("states less than it holds", lying(25_000, &tree)),
        ("states more than it holds", lying(40_000, &tree)),
        ("inflates to far more than it states", lying(2000, &[&tree[..], &vec![0; 8 << 20]].concat())),
        ("longer than any tree", frame(&play.tree(&vec![0x33; 3 << 20], 0), How::Deflated(6))),
        ("the root is elsewhere", frame(&play.tree(&vec![0x33; 30_000], 1), How::Deflated(6))),
        ("too short", frame(&tree[..4], How::Stored)),
    ] {
        let mut rig = play.setup(How::Stored, PINS).start();
        play.enter(&mut rig, How::Stored).await;
        rig.down_becomes(&bytes, &bytes, How::Stored, name).await;
    }
    // What cannot even be told from others ends the connection, as ever.
    let mut rig = play.setup(How::Stored, PINS).start();
    play.enter(&mut rig, How::Stored).await;
    rig.backend.write_all(&[5, 100, 1, 2, 3, 4]).await.unwrap();
    assert!(is_malformed(&rig.ended().await, Side::Backend));
}

#[tokio::test(start_paused = true)]
async fn a_tree_that_never_ends_reaches_nobody() {
    let play = &PLAYS[7];
    let tree = frame(&play.tree(&noise(30_000), 0), How::Plain);
    let mut rig = play.setup(How::Plain, PINS).start();
    play.enter(&mut rig, How::Plain).await;
    rig.backend.write_all(&tree[..20_000]).await.unwrap();
    rig.backend.shutdown().await.unwrap();
    assert!(rig.client.read_to_end().await.is_empty());
    drop(rig.client);
    assert!(matches!(rig.run.await.unwrap().cause, EndCause::BackendClosed));
    // Whoever is closed meanwhile waits for it no longer than for any other frame.
    let mut rig = play.setup(How::Plain, PINS).start();
    play.enter(&mut rig, How::Plain).await;
    rig.backend.write_all(&tree[..20_000]).await.unwrap();
    yield_now().await;
    rig.handle.close(Text::plain("bye"));
    let start = Instant::now();
    assert!(rig.client.read_to_end().await.is_empty());
    assert_eq!(start.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_comes_before_the_world_but_a_farewell() {
    for play in &PLAYS {
        for close in [false, true] {
            let mut rig = play.setup(How::Plain, PINS).start();
            if let Some(configuration) = &play.reconfiguration {
                rig.up(&frame(&[3], How::Plain)).await;
                play.finish(&mut rig, configuration, How::Plain).await;
            }
            rig.handle.chat(&Text::plain("hello"));
            rig.down(&frame(&[0x7e; 50], How::Plain)).await;
            assert!(timeout(Duration::from_secs(1), rig.client.read(1)).await.is_err(), "{}", play.protocol);
            assert!(timeout(Duration::from_secs(1), rig.handle.joined()).await.is_err());
            if close {
                rig.handle.close(Text::plain("bye"));
                let seen = packets(&rig.client.read_to_end().await, None);
                assert!(seen.len() == 1 && contains(&seen[0], "bye"), "{}", play.protocol);
            } else {
                play.join(&mut rig, How::Plain).await;
                rig.handle.joined().await;
                rig.backend.shutdown().await.unwrap();
                let seen = packets(&rig.client.read_to_end().await, None);
                assert!(seen.len() == 1 && contains(&seen[0], "hello"), "{}", play.protocol);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_above_the_hotbar() {
    for play in &PLAYS {
        let mut rig = play.setup(How::Plain, PINS).start();
        play.enter(&mut rig, How::Plain).await;
        rig.handle.action_bar(&Text::plain("30 seconds left"));
        rig.backend.shutdown().await.unwrap();
        let seen = packets(&rig.client.read_to_end().await, None);
        assert!(seen.len() == 1 && contains(&seen[0], "30 seconds left"), "{}", play.protocol);
    }
}
