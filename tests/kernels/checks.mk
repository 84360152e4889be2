# Builds the checks of the native kernels and runs them: as the kernels are, with the sanitizers of memory and undefined
# behaviour, and with that of threads. Threads share the same memory whatever the instruction set, so that the last one
# looks at the baseline's kernels only.
#
#   make -j2 check-native ISAS="avx2 baseline"    ISAS: instruction sets to check; all that the machine has if empty

KERNELS := kernels/cpu
TESTS   := tests/kernels
OUT     := build/native
ISAS    ?=

UNITS   := $(filter-out module,$(patsubst $(KERNELS)/%.cpp,%,$(wildcard $(KERNELS)/*.cpp)))
SETS    := $(filter isa_%,$(UNITS))
HEADERS := $(wildcard $(KERNELS)/*.h $(TESTS)/*.h)
COMPILE := -std=c++17 -g0 -pthread -I$(KERNELS)

plain_flags   := -O2
address_flags := -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined
thread_flags  := -O1 -fsanitize=thread

.PHONY: all plain address thread
.SECONDARY:

# The builds for the sanitizers go on while the plain checks run.
all: plain address thread
address: | plain
thread: | address

# $(call run,kind,checks,instruction sets)
run = @set -e; for check in $(2); do echo "$(1) $$check"; $(OUT)/$(1)/$$check $(3); done
programs = $(addprefix $(OUT)/$(1)/,$(2))

plain: $(call programs,plain,check check_attention check_programs check_abi check_encode)
	$(call run,plain,check check_attention check_programs check_abi check_encode,$(ISAS))

address: export ASAN_OPTIONS := allocator_may_return_null=1
address: $(call programs,address,check check_attention check_programs check_abi check_encode)
	$(call run,address,check check_attention check_programs check_abi check_encode,$(ISAS))

thread: export TSAN_OPTIONS := allocator_may_return_null=1
thread: $(call programs,thread,check_programs check_abi check_encode)
	$(call run,thread,check_programs check_abi check_encode,baseline)

# $(call build,kind,objects of the instruction sets)
define build
$(OUT)/$(1)/%.o: $(KERNELS)/%.cpp $(HEADERS)
	@mkdir -p $$(@D)
	$$(CXX) $(COMPILE) $($(1)_flags) -c $$< -o $$@

$(OUT)/$(1)/%.o: $(TESTS)/%.cpp $(HEADERS)
	@mkdir -p $$(@D)
	$$(CXX) $(COMPILE) -Wall -Wextra $($(1)_flags) -c $$< -o $$@

$(call programs,$(1),check check_attention): $(OUT)/$(1)/%: $(OUT)/$(1)/%.o $(2)
	$$(CXX) -pthread $($(1)_flags) $$^ -o $$@

$(call programs,$(1),check_programs check_abi check_encode): $(OUT)/$(1)/%: $(OUT)/$(1)/%.o $(2) $(patsubst %,$(OUT)/$(1)/%.o,$(filter-out $(SETS),$(UNITS)))
	$$(CXX) -pthread $($(1)_flags) $$^ -o $$@
endef
$(eval $(call build,plain,$(SETS:%=$(OUT)/plain/%.o)))
$(eval $(call build,address,$(SETS:%=$(OUT)/address/%.o)))
$(eval $(call build,thread,$(OUT)/thread/isa_baseline.o $(patsubst %,$(OUT)/plain/%.o,$(filter-out isa_baseline,$(SETS)))))
