package bench;

import anabranch.TurnMetric;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Collection;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CompletableFuture;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.specific.SpecificDatumReader;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** kafka-clients, Avro's specific records, a HashMap, and RowBinary over HTTP; at least once. */
public final class Peer {
  private static final int ROWS = 100_000;
  private static final int UNDER_WAY = 2;
  private static final int WIRE_BYTES = 5;

  private Peer() {}

  /** An insert on its way while the next batch is decoded, and what to commit when it is there. */
  private record UnderWay(
      CompletableFuture<Void> inserted, Map<TopicPartition, OffsetAndMetadata> ends) {
    void settle(KafkaConsumer<byte[], byte[]> consumer) {
      inserted.join();
      consumer.commitAsync(ends, null);
    }
  }

  public static void main(String[] arguments) throws Exception {
    String topic = told("TOPIC");
    long left = Long.parseLong(told("EVENTS"));
    Store store = new Store();
    SpecificDatumReader<TurnMetric> reader = new SpecificDatumReader<>(TurnMetric.getClassSchema());
    BinaryDecoder decoder = null;
    TurnMetric event = null;
    try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings())) {
      consumer.subscribe(List.of(topic), new Assigned());
      RowBinary rows = new RowBinary(ROWS * 200);
      Sums sums = new Sums();
      int gathered = 0;
      Map<TopicPartition, OffsetAndMetadata> ends = new HashMap<>();
      Deque<UnderWay> underWay = new ArrayDeque<>();
      while (left > 0) {
        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
          byte[] value = record.value();
          decoder =
              DecoderFactory.get()
                  .binaryDecoder(value, WIRE_BYTES, value.length - WIRE_BYTES, decoder);
          event = reader.read(event, decoder);
          rows.turn(event, topic, record.partition(), record.offset());
          sums.add(event);
          ends.put(
              new TopicPartition(topic, record.partition()),
              new OffsetAndMetadata(record.offset() + 1));
          gathered++;
          left--;
        }
        if (gathered >= ROWS || (left <= 0 && gathered > 0)) {
          if (underWay.size() == UNDER_WAY) {
            underWay.remove().settle(consumer);
          }
          underWay.add(new UnderWay(store.insert(rows.taken(), sums.taken()), ends));
          ends = new HashMap<>();
          gathered = 0;
        }
      }
      while (!underWay.isEmpty()) {
        underWay.remove().settle(consumer);
      }
      say("stored");
      System.in.read(); // what the process has used is looked at before it is ended from outside
    }
  }

  static String told(String name) {
    return System.getenv("BENCH_" + name);
  }

  private static void say(String what) {
    System.out.println(what);
    System.out.flush();
  }

  private static Properties settings() {
    Properties settings = new Properties();
    settings.put("bootstrap.servers", told("BOOTSTRAP"));
    settings.put("group.id", told("GROUP"));
    settings.put("auto.offset.reset", "earliest");
    settings.put("enable.auto.commit", "false");
    settings.put("max.poll.records", "10000");
    settings.put("max.partition.fetch.bytes", Integer.toString(4 << 20));
    settings.put("key.deserializer", ByteArrayDeserializer.class.getName());
    settings.put("value.deserializer", ByteArrayDeserializer.class.getName());
    return settings;
  }

  private static final class Assigned implements ConsumerRebalanceListener {
    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> revoked) {}

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> assigned) {
      say("reading");
    }
  }
}
