use super::*;

fn moment(number: u64) -> Moment {
    Moment { number, micros: number * 10 }
}

fn operation(call: Call, began: u64, ended: Option<(u64, End)>) -> Operation {
    Operation { key: "k".to_owned(), call, began: moment(began), ended: ended.map(|(at, end)| (moment(at), end)) }
}

/// Two at a time, one that fails, one whose end nobody knows, and one that has none.
fn some() -> Vec<Operation> {
    vec![
        operation(Call::Write(3), 1, Some((4, End::Ok(None)))),
        operation(Call::Read, 2, Some((3, End::Ok(Some(0))))),
        operation(Call::CompareAndSet(3, 5), 5, Some((6, End::Fail))),
        operation(Call::Write(7), 7, Some((8, End::Unknown))),
        operation(Call::Read, 9, Some((10, End::Unknown))),
        operation(Call::CompareAndSet(7, 9), 11, None),
    ]
}

fn written(format: Format) -> String {
    let some = some();
    write_register(format, Some(0), &some.iter().collect::<Vec<_>>())
}

#[test]
fn knossos_is_given_operation_maps() {
    let text = written(Format::Knossos);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "{:index 0, :time 0, :process 0, :type :invoke, :f :write, :value 0}");
    assert_eq!(lines[3], "{:index 3, :time 20000, :process 1, :type :invoke, :f :read, :value nil}");
    assert_eq!(lines[4], "{:index 4, :time 30000, :process 1, :type :ok, :f :read, :value 0}");
    assert_eq!(lines[7], "{:index 7, :time 60000, :process 0, :type :fail, :f :cas, :value [3 5]}");
    assert_eq!(lines[9], "{:index 9, :time 80000, :process 0, :type :info, :f :write, :value 7}");
    assert!(lines[10].contains(":process 1"), "process 0 is not heard of again: {}", lines[10]);
    assert_eq!(lines.last(), Some(&"{:index 13, :time nil, :process 2, :type :info, :f :cas, :value [7 9]}"));
}

#[test]
fn porcupine_is_given_a_jepsen_log() {
    let text = written(Format::PorcupineRegister);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[2], "INFO  jepsen.util - 0\t:invoke\t:write\t3");
    assert_eq!(lines[4], "INFO  jepsen.util - 1\t:ok\t:read\t0");
    assert_eq!(lines[7], "INFO  jepsen.util - 0\t:fail\t:cas\t[3 5]");
    assert_eq!(lines[9], "INFO  jepsen.util - 1\t:invoke\t:read\tnil", "the write before it has no end");
    assert_eq!(lines[10], "INFO  jepsen.util - 1\t:fail\t:read\t:timed-out");
    assert_eq!(lines.len(), 12, "{text}");
}

#[test]
fn porcupine_is_given_the_puts_and_gets_of_a_store() {
    let puts = [
        operation(Call::Write(3), 1, Some((4, End::Ok(None)))),
        operation(Call::Read, 2, Some((3, End::Ok(None)))),
        operation(Call::Write(7), 7, Some((8, End::Unknown))),
    ];
    let text = write_store(&puts.iter().collect::<Vec<_>>()).unwrap();
    let expected = "{:process 0, :type :invoke, :f :put, :key \"k\", :value \"3\"}\n\
                    {:process 1, :type :invoke, :f :get, :key \"k\", :value nil}\n\
                    {:process 1, :type :ok, :f :get, :key \"k\", :value \"\"}\n\
                    {:process 0, :type :ok, :f :put, :key \"k\", :value \"3\"}\n\
                    {:process 0, :type :invoke, :f :put, :key \"k\", :value \"7\"}\n";
    assert_eq!(text, expected);
    let some = some();
    assert_eq!(write_store(&some.iter().collect::<Vec<_>>()), Err(Unsuitable), "it has compare-and-set");
}

#[test]
fn what_is_neither_read_nor_written_has_its_own_name() {
    let call = Call::Other("command", "0a \"b\"".to_owned());
    let other = operation(call, 1, Some((2, End::Answered("ff".to_owned()))));
    let text = write_register(Format::Knossos, None, &[&other]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "{:index 0, :time 10000, :process 0, :type :invoke, :f :command, :value \"0a \\\"b\\\"\"}");
    assert_eq!(lines[1], "{:index 1, :time 20000, :process 0, :type :ok, :f :command, :value \"ff\"}");
}
