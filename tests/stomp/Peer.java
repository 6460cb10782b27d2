import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.Collections;
import java.util.HashMap;
import java.util.Map;
import javax.jms.BytesMessage;
import javax.jms.Connection;
import javax.jms.Destination;
import javax.jms.MapMessage;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.ObjectMessage;
import javax.jms.Session;
import javax.jms.StreamMessage;
import javax.jms.TextMessage;
import org.apache.activemq.ActiveMQConnectionFactory;

/** A program with ActiveMQ's own JMS client, that knows nothing of msgbus: a command a line, its answer a line. */
public class Peer {
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    private final Session session;
    private final MessageProducer producer;

    private Peer(Connection connection) throws Exception {
        session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        producer = session.createProducer(null);
    }

    public static void main(String[] arguments) throws Exception {
        Connection connection = new ActiveMQConnectionFactory(arguments[0]).createConnection();
        connection.start();
        Peer peer = new Peer(connection);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        OUT.println("ready");
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            try {
                OUT.println(peer.run(fields(line)));
            } catch (Exception error) {
                OUT.println("error=" + encoded(error.toString()));
            }
        }
        connection.close();
    }

    private String run(Map<String, String> command) throws Exception {
        Destination queue = session.createQueue(command.get("queue"));
        switch (command.get("do")) {
            case "send":
                return "id=" + encoded(send(queue, message(command), command));
            case "request":
                return request(queue, command);
            case "receive":
                return receive(queue, command);
            case "respond":
                respond(queue, command);
                return "done=";
            default:
                throw new IllegalArgumentException(command.get("do"));
        }
    }

    private String send(Destination to, Message message, Map<String, String> command) throws Exception {
        int priority = Integer.parseInt(command.getOrDefault("priority", "4"));
        producer.send(to, message, javax.jms.DeliveryMode.PERSISTENT, priority, 0);
        return message.getJMSMessageID();
    }

    private String request(Destination queue, Map<String, String> command) throws Exception {
        Destination inbox = session.createTemporaryQueue();
        MessageConsumer consumer = session.createConsumer(inbox);
        try {
            Message message = message(command);
            message.setJMSReplyTo(inbox);
            String id = send(queue, message, command);
            return "id=" + encoded(id) + "\t" + told(consumer.receive(wait(command)));
        } finally {
            consumer.close();
        }
    }

    private String receive(Destination queue, Map<String, String> command) throws Exception {
        String selector = command.get("selector");
        MessageConsumer consumer = session.createConsumer(queue, selector);
        try {
            return told(consumer.receive(wait(command)));
        } finally {
            consumer.close();
        }
    }

    /** Answers one request; its correlation is the request's own, or its message id. */
    private void respond(Destination queue, Map<String, String> command) throws Exception {
        MessageConsumer consumer = session.createConsumer(queue);
        try {
            Message request = consumer.receive(wait(command));
            Message reply = message(command);
            boolean byId = command.getOrDefault("correlate", "").equals("id");
            reply.setJMSCorrelationID(byId ? request.getJMSMessageID() : request.getJMSCorrelationID());
            producer.send(request.getJMSReplyTo(), reply);
        } finally {
            consumer.close();
        }
    }

    private Message message(Map<String, String> command) throws Exception {
        String body = command.getOrDefault("body", "");
        Message message = made(command.get("kind"), body);
        for (String name : command.keySet()) {
            if (name.startsWith("property.")) {
                message.setStringProperty(name.substring(9), command.get(name));
            }
        }
        if (command.containsKey("correlation")) {
            message.setJMSCorrelationID(command.get("correlation"));
        }
        if (command.containsKey("group")) {
            message.setStringProperty("JMSXGroupID", command.get("group"));
        }
        return message;
    }

    private Message made(String kind, String body) throws Exception {
        switch (kind) {
            case "text":
                return session.createTextMessage(body);
            case "bytes":
                BytesMessage bytes = session.createBytesMessage();
                bytes.writeBytes(body.getBytes(StandardCharsets.UTF_8));
                return bytes;
            case "map":
            case "bytes in a map":
                MapMessage map = session.createMapMessage();
                map.setString("key", body);
                map.setInt("number", 7);
                map.setDouble("price", 1.5);
                map.setBoolean("open", true);
                if (!kind.equals("map")) {
                    map.setBytes("raw", new byte[] {0, 1, (byte) 0xff});
                }
                return map;
            case "stream":
                StreamMessage stream = session.createStreamMessage();
                stream.writeString(body);
                stream.writeInt(7);
                return stream;
            case "object":
                return session.createObjectMessage(new HashMap<>(Map.of("key", body)));
            default:
                return session.createMessage();
        }
    }

    private static String told(Message message) throws Exception {
        if (message == null) {
            return "none=";
        }
        StringBuilder line = new StringBuilder();
        add(line, "correlation", message.getJMSCorrelationID());
        add(line, "type", message.getJMSType());
        add(line, "priority", String.valueOf(message.getJMSPriority()));
        for (Object name : Collections.list(message.getPropertyNames())) {
            add(line, "property." + name, String.valueOf(message.getObjectProperty((String) name)));
        }
        if (message instanceof TextMessage) {
            add(line, "text", ((TextMessage) message).getText());
        } else if (message instanceof BytesMessage) {
            byte[] body = new byte[(int) ((BytesMessage) message).getBodyLength()];
            ((BytesMessage) message).readBytes(body);
            add(line, "bytes", new String(body, StandardCharsets.UTF_8));
        } else if (message instanceof MapMessage) {
            MapMessage map = (MapMessage) message;
            add(line, "map", map.getString("key"));
            for (Object name : Collections.list(map.getMapNames())) {
                Object value = map.getObject((String) name);
                String text = value instanceof byte[] ? Base64.getEncoder().encodeToString((byte[]) value) : "" + value;
                add(line, "map." + name, value.getClass().getSimpleName() + " " + text);
            }
        } else if (message instanceof ObjectMessage) {
            add(line, "object", "");
        } else if (message instanceof StreamMessage) {
            add(line, "stream", ((StreamMessage) message).readString());
        }
        return line.toString();
    }

    private static void add(StringBuilder line, String name, String value) {
        if (value != null) {
            line.append(line.length() == 0 ? "" : "\t").append(name).append("=").append(encoded(value));
        }
    }

    private static long wait(Map<String, String> command) {
        return Long.parseLong(command.getOrDefault("wait", "30000"));
    }

    private static String encoded(String text) {
        return Base64.getEncoder().encodeToString(text.getBytes(StandardCharsets.UTF_8));
    }

    private static Map<String, String> fields(String line) {
        Map<String, String> found = new HashMap<>();
        for (String field : line.split("\t")) {
            int at = field.indexOf('=');
            byte[] value = Base64.getDecoder().decode(field.substring(at + 1));
            found.put(field.substring(0, at), new String(value, StandardCharsets.UTF_8));
        }
        return found;
    }
}
