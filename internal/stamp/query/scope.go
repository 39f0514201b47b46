package query

// scope is what a query is over; it decides which names and functions there are.
type scope int

const (
	devices scope = iota
	messages
	jobs
)

func (s scope) String() string {
	if s == messages {
		return "route"
	}
	return "device"
}

func (s scope) example() string {
	if s == messages {
		return "$body.temperature"
	}
	return "tags.batch"
}

// twinRoot leads to the twin of a message's sender.
const twinRoot = "$twin"

// deviceFields are the fields of a device that conditions know, by their
// lower-case names.
var deviceFields = map[string]string{
	"deviceid": "deviceId", "moduleid": "moduleId", "etag": "etag", "version": "version", "generationid": "generationId",
	"status": "status", "statusreason": "statusReason", "connectionstate": "connectionState", "lastactivitytime": "lastActivityTime",
	"statusupdatetime": "statusUpdateTime", "authenticationtype": "authenticationType", "modelid": "modelId",
	"devicescope": "deviceScope", "cloudtodevicemessagecount": "cloudToDeviceMessageCount", "enrollment": "enrollment", "tenant": "tenant",
}

// numberFields are those of them that are numbers.
var numberFields = map[string]bool{"version": true, "cloudToDeviceMessageCount": true}

// jobFields are the fields of a job's part on one device.
var jobFields = map[string]string{
	"jobid": "jobId", "deviceid": "deviceId", "jobtype": "jobType", "status": "status", "starttimeutc": "startTimeUtc",
	"endtimeutc": "endTimeUtc", "createddatetimeutc": "createdDateTimeUtc", "lastupdateddatetimeutc": "lastUpdatedDateTimeUtc",
}

func (s scope) isField(root string) bool {
	if s == messages {
		return false
	}
	if s == jobs {
		return true
	}
	_, known := fieldSet[root]
	return known
}

var fieldSet = func() map[string]struct{} {
	set := map[string]struct{}{}
	for _, field := range deviceFields {
		set[field] = struct{}{}
	}
	return set
}()

// kindOf is a primitive type, or several where only the data will tell.
type kindOf int

const (
	boolean kindOf = 1 << iota
	numeric
	textual
	nothing kindOf = 0
	unknown        = boolean | numeric | textual
)

// function describes a function of the language.
type function struct {
	least, most  int
	result       kindOf
	ofProperty   bool // its first argument is a property
	messagesOnly bool // there is no way to say it in SQL with the same meaning everywhere
}

var functions = map[string]function{
	"IS_DEFINED": {1, 1, boolean, true, false}, "IS_NULL": {1, 1, boolean, true, false},
	"IS_STRING": {1, 1, boolean, true, false}, "IS_NUMBER": {1, 1, boolean, true, false}, "IS_BOOL": {1, 1, boolean, true, false},
	"IS_ARRAY": {1, 1, boolean, true, false}, "IS_OBJECT": {1, 1, boolean, true, false}, "IS_PRIMITIVE": {1, 1, boolean, true, false},
	"STARTS_WITH": {2, 2, boolean, false, false}, "ENDS_WITH": {2, 2, boolean, false, false}, "CONTAINS": {2, 2, boolean, false, false},
	"LENGTH": {1, 1, numeric, false, true}, "INDEX_OF": {2, 2, numeric, false, true}, "AS_NUMBER": {1, 1, numeric, false, true},
	"LOWER": {1, 1, textual, false, true}, "UPPER": {1, 1, textual, false, true}, "SUBSTRING": {2, 3, textual, false, true}, "CONCAT": {1, 16, textual, false, true},
	"ABS": {1, 1, numeric, false, true}, "CEILING": {1, 1, numeric, false, true}, "FLOOR": {1, 1, numeric, false, true}, "SIGN": {1, 1, numeric, false, true},
	"SQRT": {1, 1, numeric, false, true}, "SQUARE": {1, 1, numeric, false, true}, "EXP": {1, 1, numeric, false, true}, "POWER": {2, 2, numeric, false, true},
}

// aliases are other spellings of some of them.
var aliases = map[string]string{"STARTSWITH": "STARTS_WITH", "ENDSWITH": "ENDS_WITH", "IS_BOOLEAN": "IS_BOOL"}

// isVersion reports whether a path is the version of a section of the twin,
// which is no part of the document itself.
func isVersion(p path) bool {
	return len(p.parts) == 2 && p.parts[1] == "$version" && (p.parts[0] == "desired" || p.parts[0] == "reported")
}

// kinds says what a value can be before anybody looks at data.
func kinds(n node) kindOf {
	switch n := n.(type) {
	case literal:
		switch n.value.(type) {
		case float64:
			return numeric
		case string:
			return textual
		case bool:
			return boolean
		}
		return nothing
	case arithmetic:
		return numeric
	case call:
		return functions[n.function].result
	case path:
		switch _, field := fieldSet[n.parts[0]]; {
		case isVersion(n):
			return numeric
		case numberFields[n.parts[0]]:
			return numeric
		case field:
			return textual
		}
		return unknown
	}
	return boolean
}
